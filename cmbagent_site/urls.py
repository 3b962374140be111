"""Every address: admin, API, and the pages at the root."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from cmbagent_site import system
from cmbagent_site.api import api
from sessions_app.views.door import throttled

handler500 = "cmbagent_site.problems.server_error"

urlpatterns = [
    path("admin/login/", throttled(admin.site.login)),
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("system/", system.show_system, name="system"),
    path("system/_state/", system.show_state, name="system_state"),
    path("", include("sessions_app.urls")),
]
