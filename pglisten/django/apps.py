"""What Django does at the start, if ``INSTALLED_APPS`` has ``"pglisten.django"``."""
# pyright: basic

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.core.signals import request_started

from .. import _integration
from . import _noted, broadcaster
from .checks import check_connection, check_settings

__all__ = ["PgListenConfig"]


class PgListenConfig(AppConfig):
    """Register the checks, make the broadcaster, and have functions of ``on()`` start."""

    name = "pglisten.django"
    label = "pglisten"
    verbose_name = "pglisten"

    def ready(self) -> None:
        """Do it, when all applications are loaded. Raises an error for wrong arguments of ``on()``."""
        checks.register(check_settings)
        checks.register(check_connection, checks.Tags.database)
        request_started.connect(_before_request, dispatch_uid="pglisten")
        # Not in the first request: gunicorn's hook, which is earlier, starts the functions of broadcasters.
        if not any(message.is_serious() for message in check_settings()):
            broadcaster()


def _before_request(**_: object) -> None:
    if _noted:
        broadcaster()
        _integration.serve(broadcaster())
