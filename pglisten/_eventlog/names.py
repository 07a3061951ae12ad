"""The names of a log's tables, view, function and channel. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from .._sql import MAX_CHANNEL, quote_identifier
from .._text import printable
from ..errors import ConfigurationError

__all__ = ["MAX_NAME", "LogNames"]

MAX_NAME = 40
"""Longest name of a log, in bytes of UTF-8. The names of its tables, indexes and triggers are this name and a
suffix, and must fit PostgreSQL's 63 bytes."""


@dataclass(frozen=True)
class LogNames:
    """The names of log *name* in *schema*, quoted and qualified for SQL.

    Raises `ConfigurationError` if *name* is not text of 1 to 40 bytes of UTF-8 without a dot, or *schema* not
    a name that PostgreSQL can store.
    """

    name: str
    schema: str = "public"

    entries: str = field(init=False, repr=False)
    """The table that writers insert into."""
    positions: str = field(init=False, repr=False)
    """The table with a position for each committed entry."""
    state: str = field(init=False, repr=False)
    """The table with one row: the version, and how far the log was trimmed."""
    consumers: str = field(init=False, repr=False)
    """The table with a position for each named consumer."""
    view: str = field(init=False, repr=False)
    """The view that readers select from: position, channel, payload, created."""
    function: str = field(init=False, repr=False)
    """The trigger function that gives positions."""
    bell: str = field(init=False, repr=False)
    """The channel, unquoted, that is notified when a transaction has added entries."""

    def __post_init__(self) -> None:
        _check("name", self.name, MAX_NAME)
        _check("schema", self.schema, MAX_CHANNEL)
        if "." in self.name:
            raise ConfigurationError(
                f"a log's name has no dot, not {self.name!r}: give a schema by itself (schema=, --schema)",
                option="name",
            )
        suffixes = {
            "entries": "",
            "positions": "_position",
            "state": "_state",
            "consumers": "_consumer",
            "view": "_log",
            "function": "_number",
        }
        for attribute, suffix in suffixes.items():
            self._set(attribute, self.qualified(suffix))
        self._set("bell", _bell(self.schema, self.name))

    def qualified(self, suffix: str) -> str:
        """Return the quoted, qualified name of what has the log's name and *suffix*."""
        return f"{quote_identifier(self.schema)}.{self.plain(suffix)}"

    def plain(self, suffix: str) -> str:
        """Return the quoted name, without a schema, of what has the log's name and *suffix*."""
        return quote_identifier(self.name + suffix)

    def __str__(self) -> str:
        """Return the name for people, as in ``public.events``."""
        return printable(f"{self.schema}.{self.name}")

    def _set(self, attribute: str, value: str) -> None:
        object.__setattr__(self, attribute, value)  # The dataclass is frozen.


def _check(option: str, value: str, limit: int) -> None:
    wanted = f"{option} is text of 1 to {limit} bytes of UTF-8 without NUL"
    if not isinstance(value, str):
        raise ConfigurationError(f"{wanted}, not {value!r}", option=option)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        size = 0
    if not 1 <= size <= limit or "\0" in value:
        raise ConfigurationError(f"{wanted}, not {value!r}", option=option)


def _bell(schema: str, name: str) -> str:
    bell = f"pglisten:{schema}.{name}"
    if len(bell.encode()) <= MAX_CHANNEL:
        return bell
    return "pglisten:" + hashlib.md5(bell.encode(), usedforsecurity=False).hexdigest()
