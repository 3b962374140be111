"""Writes the JSON Schema of the socket's frames: manage.py socket_schema > docs/socket.schema.json"""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app.sockets.frames import socket_schema


class Command(BaseCommand):
    help = "Print the JSON Schema of all WebSocket frames (docs/socket.schema.json)."
    requires_system_checks = ()

    def handle(self, **_: Any) -> None:
        self.stdout.write(json.dumps(socket_schema(), indent=2))
