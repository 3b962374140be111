"""Where sockets come in. What matches nothing is told so in the socket's own way (4404)."""

from __future__ import annotations

from django.urls import URLPattern, re_path

from sessions_app.consumers import serve_socket

websocket_urlpatterns: list[URLPattern] = [
    re_path(r"^ws/$", serve_socket),  # type: ignore[arg-type]  # no view: an ASGI application
    re_path(r"^ws/sessions/(?P<session_id>[^/]+)/$", serve_socket),  # type: ignore[arg-type]
    re_path(r"", serve_socket, {"session_id": "none"}),  # type: ignore[arg-type]
]
