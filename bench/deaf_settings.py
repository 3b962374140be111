"""The program's settings with a channel layer that reaches no other process: every hint is lost."""

from cmbagent_site.settings import *  # noqa: F403  all of them but one

CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
