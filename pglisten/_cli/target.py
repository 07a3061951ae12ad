"""The connection string and the backend that a command's arguments name."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import gevent

from .._connection.target import Target
from .._conninfo.overrides import is_connection_string, with_settings
from .._conninfo.urls import Dsn, rendered
from .._listener.config import named_dsn
from .._threads import in_thread
from ..errors import ConfigurationError
from .texts import DSN_VARIABLE

__all__ = ["dsn", "fixed_dsn", "target"]

SETTINGS = {"host": "host", "port": "port", "username": "user", "dbname": "dbname"}
"""psql's options for one setting each, with libpq's keyword."""


def target(arguments: argparse.Namespace) -> Target:
    """Return where *arguments* lead. Raises `ConfigurationError` for what cannot work."""
    return Target(dsn(arguments), arguments.backend, None)


def dsn(arguments: argparse.Namespace) -> Dsn:
    """Return the connection string of *arguments*, the application or the environment.

    It may be a function that returns one. Raises `ConfigurationError` for a function that cannot be imported,
    and for options that cannot be combined. A connection string is checked only if an option replaces a part
    of it.
    """
    key, text = ("--dsn", arguments.dsn) if arguments.dsn is not None else _configured(arguments)
    settings, whole = _settings(arguments)
    if whole is not None:
        # As in psql, what this string sets takes precedence over the other options.
        return _text(with_settings(whole, settings, given=True))
    if isinstance(text, str) and ":" in text and os.getcwd() not in sys.path:
        # The script's folder is on the path, not the current one. At the end, nothing installed is hidden.
        sys.path.append(os.getcwd())
    found = named_dsn(key, text)
    name = text if isinstance(text, str) else getattr(text, "__qualname__", "dsn")
    return _in_thread(name, found, settings) if callable(found) else _text(with_settings(found, settings))


def fixed_dsn(arguments: argparse.Namespace) -> str | None:
    """Return the connection string of *arguments* alone; ``None`` if they name no server."""
    settings, whole = _settings(arguments)
    if whole is not None:
        return _text(with_settings(whole, settings, given=True))
    if arguments.dsn is None and not settings:
        return None
    return _text(with_settings(arguments.dsn or "", settings))


def _configured(arguments: argparse.Namespace) -> tuple[str, Any]:
    """Return what the application has configured, whose command line this is; else the environment."""
    found = getattr(arguments, "configured", None)
    return DSN_VARIABLE, os.environ.get(DSN_VARIABLE, "") if found is None else rendered(found)


def _settings(arguments: argparse.Namespace) -> tuple[dict[str, str], str | None]:
    """Return the settings that options name, and the connection string in the place of a database's name."""
    options = {keyword: getattr(arguments, option) for option, keyword in SETTINGS.items()}
    settings: dict[str, str] = {keyword: text for keyword, text in options.items() if text is not None}
    if not is_connection_string(settings.get("dbname", "")):
        return settings, None
    if arguments.dsn is not None:
        raise ConfigurationError("--dsn and --dbname both have a connection string: leave one out")
    return settings, settings.pop("dbname")


def _text(found: object) -> str:
    assert isinstance(found, str)
    return found


def _in_thread(name: str, function: Callable[[], object], settings: Mapping[str, str]) -> Any:
    """Return a function that calls *function* in a thread, and replaces *settings* in what it returns.

    This process is not monkey-patched: in its own thread a call that blocks would keep Ctrl-C and time limits
    from working.
    """

    def call() -> object:
        try:
            return function()
        finally:
            # If the function uses gevent, this thread has a hub of its own, with open descriptors.
            gevent.get_hub().destroy(destroy_loop=True)

    def ask() -> object:
        done = in_thread(call, None)
        assert done is not None
        return with_settings(done.get(), settings)

    ask.__qualname__ = name.strip()
    return ask
