"""SQL text and PostgreSQL's limits. Pure: wrong arguments are refused before anything is stored or sent."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import InvalidChannelName, PayloadTooLong

MAX_CHANNEL = 63
"""Longest channel name, in bytes of UTF-8: NAMEDATALEN - 1 (PostgreSQL docs, 4.1.1).

LISTEN cuts a longer name with only a notice, and pg_notify refuses it: no notification would arrive.
"""

MAX_PAYLOAD = 7999
"""Longest payload, in bytes of UTF-8: "shorter than 8000 bytes" (PostgreSQL docs, NOTIFY)."""

PING = ";"
"""A query that the server answers without a snapshot (EmptyQueryResponse).

``SELECT 1`` needs one: if ``default_transaction_isolation`` is serializable and ``_read_only`` and
``_deferrable`` are on, it waits until the transactions of all serializable writers have ended.
"""

READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"
"""Prefix of this package's queries that need a snapshot: they get it without waiting.

The role's default may be serializable: a deferrable transaction waits for a snapshot, a standby refuses it.
The statements of one simple query are one transaction, and the setting ends with that transaction.
"""

TRIM_QUEUE = READ_COMMITTED + "SELECT pg_catalog.pg_notification_queue_usage()"
"""Makes the server drop from its notification queue what every listener has read."""

ENCODING_QUERY = "SHOW server_encoding"

LISTENING_QUERY = (
    READ_COMMITTED + "SELECT pg_catalog.pg_backend_pid()::pg_catalog.text, "  # noqa: S608 - constants
    "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_listening_channels())::pg_catalog.text"
)
"""Asks which server process answers, and to how many channels it listens.

The server counts 1,000 channels in 0.1 milliseconds and 100,000 in 10 (PostgreSQL 18).
"""

_LAST = ";" + ENCODING_QUERY
"""Last statement of each query that listens or unlistens. Its row proves that the server ran all of them.

A pooler that looks only at the first statement (PgDog) acknowledges that one, drops the rest, and sends no
row. SHOW needs no snapshot, and no other statement in the query returns rows.
"""


def _encoded(text: str) -> bytes | None:
    """Return *text* in UTF-8, or ``None`` if it cannot be sent: a NUL, or half of a surrogate pair."""
    if "\0" in text:
        return None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return None


def check_channel(channel: str) -> str:
    """Return *channel*, or raise `InvalidChannelName` (`TypeError` if it is no str)."""
    if not isinstance(channel, str):
        raise TypeError(f"a channel name is a str, not {type(channel).__name__}")
    if not channel:
        raise InvalidChannelName("a channel name has at least one character")
    data = _encoded(channel)
    if data is None:
        raise InvalidChannelName(
            f"channel name {channel!r} holds a NUL or a lone surrogate, which PostgreSQL cannot store"
        )
    if len(data) > MAX_CHANNEL:
        raise InvalidChannelName(
            f"channel name {channel!r} has {len(data)} bytes of UTF-8 and PostgreSQL takes "
            f"{MAX_CHANNEL} at most: shorten it"
        )
    return channel


def check_payload(payload: str) -> str:
    """Return *payload*, or raise `PayloadTooLong`; `TypeError` (no str), `ValueError` (NUL, surrogate)."""
    if (size := len(check_text(payload))) > MAX_PAYLOAD:
        raise PayloadTooLong(size, MAX_PAYLOAD)
    return payload


def check_text(payload: str) -> bytes:
    """Return *payload* in UTF-8, or raise `TypeError` (no str) or `ValueError` (NUL, lone surrogate)."""
    if not isinstance(payload, str):
        raise TypeError(f"a payload is a str, not {type(payload).__name__}")
    data = _encoded(payload)
    if data is None:
        # Leave the payload out of the message: it may hold secrets.
        raise ValueError("the payload holds a NUL or a lone surrogate, which PostgreSQL cannot store")
    return data


def check_statement(sql: str) -> str:
    """Return *sql*, or raise `TypeError` (no str) or `ValueError` (NUL, lone surrogate)."""
    if not isinstance(sql, str):
        raise TypeError(f"a statement is a str, not {type(sql).__name__}")
    if _encoded(sql) is None:
        raise ValueError("the statement holds a NUL or a lone surrogate, which PostgreSQL cannot read")
    return sql


def quote_identifier(name: str) -> str:
    """Return *name* quoted as an SQL identifier, case kept.

    Raises `InvalidChannelName` if PostgreSQL would refuse or cut the name: if it is empty, holds a NUL, has
    over 63 bytes of UTF-8, or cannot be encoded in UTF-8.
    """
    return '"' + check_channel(name).replace('"', '""') + '"'


def notify_statement(channel: str, payload: str) -> str:
    """Return the NOTIFY. Raises what `check_channel` and `check_payload` do."""
    statement = f"NOTIFY {quote_identifier(channel)}"
    if check_payload(payload):
        statement += f", {quote_literal(payload)}"
    return statement


def quote_literal(text: str) -> str:
    """Return *text*, which holds no NUL, quoted as an SQL literal."""
    # E'' means the same whatever standard_conforming_strings says; a plain literal does not.
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


def names_query(channels: Iterable[str]) -> str:
    """Return the query for what the database makes of each name: converted, cut, converted back."""
    rows = (f"({quote_literal(channel)}::pg_catalog.name::pg_catalog.text)" for channel in channels)
    return f"{READ_COMMITTED}VALUES {','.join(rows)}"


def sync_statement(listen: Iterable[str], unlisten: Iterable[str]) -> str:
    """Return one query that unlistens and listens to the given channels, all or nothing.

    It returns one row, which proves that the server ran all of its statements.
    """
    statements = [f"UNLISTEN {quote_identifier(channel)}" for channel in unlisten]
    statements += [f"LISTEN {quote_identifier(channel)}" for channel in listen]
    return ";".join(statements) + _LAST


UNLISTEN_ALL = "UNLISTEN *" + _LAST
