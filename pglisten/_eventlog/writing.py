"""The SQL that appends an entry. Pure."""

from __future__ import annotations

from .._sql import READ_COMMITTED, check_channel, check_text, quote_literal
from ..errors import PayloadTooLong
from .names import LogNames
from .schema import MAX_ENTRY

__all__ = ["append_sql", "append_template", "check_entry"]


def check_entry(channel: str, payload: str) -> None:
    """Raise `InvalidChannelName`, `PayloadTooLong`, `TypeError` (no str) or `ValueError` (NUL, surrogate)."""
    check_channel(channel)
    if (size := len(check_text(payload))) > MAX_ENTRY:
        raise PayloadTooLong(size, MAX_ENTRY)


def append_template(names: LogNames) -> str:
    """Return the INSERT with ``%s`` for channel and payload."""
    return f"INSERT INTO {names.entries.replace('%', '%%')} (channel, payload) VALUES (%s, %s)"


def append_sql(names: LogNames, channel: str, *payloads: str, lock_limit: int | None = None) -> str:
    """Return the INSERT of entries, in this order, as a transaction of its own.

    After *lock_limit* seconds of waiting for a lock, the server ends it (``None``: by the role's settings).
    """
    limit = "" if lock_limit is None else f"SET LOCAL lock_timeout = '{lock_limit}s';"
    to = quote_literal(channel)
    rows = ", ".join(f"({to}, {quote_literal(payload)})" for payload in payloads)
    return f"{READ_COMMITTED}{limit}INSERT INTO {names.entries} (channel, payload) VALUES {rows}"
