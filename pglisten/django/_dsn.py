"""The connection string of a database of the project."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from .._conninfo.dsn import keyword_string
from .._conninfo.keywords import KEYWORDS
from ..errors import ConfigurationError

__all__ = ["dsn", "is_default"]

_NAMES = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}

_FOR_QUERIES = frozenset(
    {
        "assume_role", "autocommit", "client_encoding", "connection_factory", "context", "cursor_factory",
        "isolation_level", "pool", "prepare_threshold", "row_factory", "server_side_binding",
    }
)  # fmt: skip
"""Options of Django and of its drivers that change how the project queries: a listener needs none."""


def dsn(alias: str = "default") -> str:
    """Return the connection string of ``settings.DATABASES[alias]``, with its password.

    ``OPTIONS`` are libpq's keywords, ``service`` and ``passfile`` among them. It leaves out those that change
    how Django or its driver queries: ``pool``, ``isolation_level``, ``assume_role``. Raises
    `ConfigurationError` if there is no such database, if it is not PostgreSQL, and for an option that is
    neither.
    """
    # Django ships no types.
    connections: Any = import_module("django.db").connections
    improperly_configured: type[Exception] = import_module("django.core.exceptions").ImproperlyConfigured
    if alias not in connections.settings:
        known = ", ".join(connections.settings)
        raise ConfigurationError(f"settings.DATABASES has no {alias!r}; known are {known}")
    try:
        connection = connections[alias]
    except improperly_configured as error:
        raise ConfigurationError(f"settings.DATABASES[{alias!r}]: {error}") from None
    if connection.vendor != "postgresql":
        raise ConfigurationError(f"settings.DATABASES[{alias!r}] is {connection.vendor}, not PostgreSQL")
    settings: Mapping[str, Any] = connection.settings_dict
    values = {keyword: str(settings[name]) for name, keyword in _NAMES.items() if settings.get(name)}
    if settings.get("NAME") is None:
        values["dbname"] = "postgres"  # As Django has it.
    for option, value in settings.get("OPTIONS", {}).items():
        if option in _FOR_QUERIES or value is None:
            continue
        if option not in KEYWORDS:
            raise ConfigurationError(
                f"settings.DATABASES[{alias!r}]['OPTIONS'] has {option}, which is no keyword of libpq's: "
                "give the listener a connection string of its own"
            )
        values[option] = str(value)
    return keyword_string(values)


def is_default() -> bool:
    """Return whether the listener's database is ``DATABASES["default"]``, which a project may not have."""
    if getattr(import_module("django.conf").settings, "PGLISTEN_DSN", ""):
        return False
    connections: Any = import_module("django.db").connections
    return bool(connections.settings["default"]["ENGINE"] != "django.db.backends.dummy")
