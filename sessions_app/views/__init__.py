"""The pages. Each view parses, calls one service and renders; a stranger's session is 404.

Every POST answers a fragment to htmx and a redirect to anything else, and says what it did.
"""

from sessions_app.views.access import sandbox_notice

__all__ = ["sandbox_notice"]
