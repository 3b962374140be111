"""The engine: runs one task in a process of its own. Plain typed Python, no Django."""

__version__ = "0.1.0"
