"""Agents: a prompt, tools and a model, each of whose calls is an entry of the run's journal."""

from cmbagent.agents.conversation import converse
from cmbagent.agents.rehearsal import rehearse

__all__ = ["converse", "rehearse"]
