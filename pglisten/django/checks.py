"""System checks that tell whether the project's listener reaches PostgreSQL itself, or a pooler."""
# pyright: basic

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's name for it
from django.db import connections

from .._cli.doctor.checks import Diagnosis
from .._cli.doctor.poolers import name_of_host
from .._cli.doctor.verdicts import Status
from .._conninfo import ConnInfo
from .._conninfo.urls import rendered
from .._listener.config import named_dsn
from ..broadcast import Broadcaster
from ..errors import ConfigurationError
from ._dsn import dsn, is_default

__all__ = ["check_connection", "check_settings"]

WORDS = {"pgbouncer": "PgBouncer", "pgcat": "PgCat", "odyssey": "Odyssey", "pooler": "a connection pooler"}
"""What people call the hosts of poolers."""

PORTS = {"6432": "PgBouncer", "6543": "Supavisor"}
"""Ports that poolers have by default: PgBouncer's and Odyssey's, and Supabase's in transaction mode."""

TIMEOUT = 5.0
"""Seconds for each step over the network."""

QUESTIONS = ("configuration", "connection", "pooler", "listen", "delivery")
"""The doctor's checks that tell whether notifications arrive."""

HINT = (
    "Set PGLISTEN_DSN to PostgreSQL itself, or to a pooler in session mode. manage.py pglisten "
    "doctor finds out what is in between. If it finds nothing, silence this check."
)


def check_settings(**_: Any) -> list[CheckMessage]:
    """Return an error for settings that cannot work, and a warning for those that look like a pooler's."""
    try:
        source = _source()
    except ConfigurationError as error:
        return [Error(str(error), id="pglisten.E001")]
    reason = None if callable(source) else _looks_pooled(ConnInfo.parse(source, os.environ))
    if reason is None:
        return []
    text = f"{reason}. A pooler in transaction mode delivers no notifications."
    return [Warning(text, hint=HINT, id="pglisten.W001")]


def check_connection(databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Return a warning for each answer of the server that says why notifications do not arrive."""
    if not databases or (is_default() and "default" not in databases):
        return []
    try:
        source = _source()
    except ConfigurationError:
        return []  # An error of check_settings.
    diagnosis = Diagnosis(source, getattr(settings, "PGLISTEN_BACKEND", "") or None, TIMEOUT)
    return [
        Warning(f"{name}: {verdict.found}.", hint=verdict.remedy, id="pglisten.W002")
        for name, verdict in diagnosis.run()
        if name in QUESTIONS and verdict.status in (Status.WARNING, Status.FAILED)
    ]


def _source() -> Any:
    """Return the listener's connection string, or a function that says it for each attempt.

    Raises `ConfigurationError` for any setting of the listener that cannot work.
    """
    made: Any = {"dsn": dsn()} if is_default() else {}
    Broadcaster.from_config(settings, **made)
    return named_dsn("PGLISTEN_DSN", made.get("dsn") or rendered(getattr(settings, "PGLISTEN_DSN", "")))


def _looks_pooled(conninfo: ConnInfo) -> str | None:
    """Return why, if it looks as if the listener's connection leads to a pooler."""
    for target in conninfo.targets():
        called = (name for word, name in WORDS.items() if word in target.host.lower())
        name = name_of_host(target.host) or next(called, None) or PORTS.get(str(target.port))
        if name is not None:
            return f"The listener's database, {target.description}, looks like {name}"
    if is_default() and connections["default"].settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return (
            "DISABLE_SERVER_SIDE_CURSORS of the default database says that a connection pooler is in between"
        )
    return None
