"""The web process: pages and API by Django, sockets by sessions_app.

    python -m daphne -e tcp:port=8000:interface=127.0.0.1:backlog=8192 cmbagent_site.asgi:application

At SIGTERM sockets are closed with 1012 (restarting).
"""

from __future__ import annotations

import atexit
import os
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cmbagent_site.settings")
django_application = get_asgi_application()

# what follows needs models, which exist once Django is set up
from cmbagent_site.backpressure import install as install_backpressure  # noqa: E402
from cmbagent_site.body_limits import install as install_body_limits  # noqa: E402
from cmbagent_site.many_sockets import install as install_many_sockets  # noqa: E402
from cmbagent_site.websocket import OriginCheck  # noqa: E402
from cmbagent_site.websocket import install as install_sockets  # noqa: E402
from sessions_app.routing import websocket_urlpatterns  # noqa: E402
from sessions_app.services import retire_web_server  # noqa: E402

install_sockets()
install_backpressure()
install_body_limits()
install_many_sockets()
atexit.register(retire_web_server)

routes: Any = websocket_urlpatterns  # the stubs know URL patterns of channels' consumers only
sockets: Any = URLRouter(routes)
application = ProtocolTypeRouter({"http": django_application, "websocket": OriginCheck(sockets)})
