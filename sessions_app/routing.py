"""Where sockets come in. What matches nothing is told so in the socket's own way (4404)."""

from __future__ import annotations

from typing import Any

from django.urls import URLPattern, re_path

from sessions_app.consumers import SocketConsumer

_socket: Any = SocketConsumer.as_asgi()  # no view: an ASGI application

websocket_urlpatterns: list[URLPattern] = [
    re_path(r"^ws/$", _socket),
    re_path(r"^ws/sessions/(?P<session_id>[^/]+)/$", _socket),
    re_path(r"", _socket, {"session_id": "none"}),
]
