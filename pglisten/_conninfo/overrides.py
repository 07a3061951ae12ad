"""Settings that replace those of a connection string. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .dsn import keyword_string, parse_dsn
from .keywords import URI_PREFIXES
from .urls import as_libpq_has_it, rendered

__all__ = ["is_connection_string", "with_settings"]


def is_connection_string(text: str) -> bool:
    """Return whether *text*, given as a database's name, is a whole connection string.

    The rule is that of libpq 17 (``recognized_connection_string``), and takes the URLs of ORMs too.
    """
    return "=" in text or as_libpq_has_it(text).startswith(URI_PREFIXES)


def with_settings(dsn: object, settings: Mapping[str, str], *, given: bool = False) -> object:
    """Return *dsn* with *settings*, by libpq's keywords; with *given*, only with those that it does not set.

    Raises `ConfigurationError` if *dsn* is a malformed connection string. An object that is none is returned
    unchanged, because its user refuses it with the reason.
    """
    text = rendered(dsn)
    if not settings or not isinstance(text, str):
        return text
    values = parse_dsn(as_libpq_has_it(text))
    if given:
        return keyword_string({**settings, **values})
    if "host" in settings:
        values.pop("hostaddr", None)  # It is the address of the host that is replaced.
    return keyword_string({**values, **settings})
