from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "cmbagent_site"
    verbose_name = "CMBAgent"

    def ready(self) -> None:
        # registering the system checks is what this import is for
        import cmbagent_site.checks  # noqa: F401, PLC0415
