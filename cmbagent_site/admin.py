"""How the admin calls itself."""

from __future__ import annotations

from django.contrib import admin

admin.site.site_header = "CMBAgent"
admin.site.site_title = "CMBAgent admin"
admin.site.index_title = "Inspect and repair"
