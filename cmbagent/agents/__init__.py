"""Agents: a prompt, tools and a model, each of whose calls is an entry of the run's journal."""
