"""What Django does at the start, if ``INSTALLED_APPS`` has ``"pglisten.django"``."""
# pyright: basic

from __future__ import annotations

import contextlib

from django.apps import AppConfig
from django.core import checks
from django.core.signals import request_started

from .. import _integration
from ..errors import ConfigurationError
from . import _noted, broadcaster
from .checks import check_connection, check_settings

__all__ = ["PgListenConfig"]


class PgListenConfig(AppConfig):
    """Register the checks, make the broadcaster, and have functions of ``on()`` start."""

    name = "pglisten.django"
    label = "pglisten"
    verbose_name = "pglisten"

    def ready(self) -> None:
        """Do it, when Django has loaded all applications."""
        checks.register(check_settings)
        checks.register(check_connection, checks.Tags.database)
        request_started.connect(_before_request, dispatch_uid="pglisten")
        # Not in the first request: gunicorn's hook, which is earlier, starts the functions of broadcasters.
        with contextlib.suppress(ConfigurationError):  # An error of check_settings.
            broadcaster()


def _before_request(**_: object) -> None:
    if _noted:
        broadcaster()
        _integration.serve()
