"""What a session's runs printed, as a person reads it: lines, colours, groups, pages, search."""

from sessions_app.console.ansi import unmasked

__all__ = ["unmasked"]
