"""The doctor's queries to the server, and its verdicts on the answers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

__all__ = [
    "CAPACITY_QUERY",
    "ENCODING_QUERY",
    "OLDEST_TRANSACTION_QUERY",
    "QUEUE_QUERY",
    "TIMEOUTS_QUERY",
    "TLS_QUERY",
    "VERSION_QUERY",
    "Status",
    "Verdict",
    "capacity",
    "encoding",
    "milliseconds",
    "queue",
    "queue_is_filling",
    "timeouts",
    "tls",
    "version",
]

Rows = Sequence[Sequence["str | None"]]


class Status(str, Enum):
    """The result of a check; the values are those of ``--json``."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


class Verdict(NamedTuple):
    """The finding of a check."""

    status: Status
    found: str
    remedy: str | None = None
    """Advice; ``None`` if there is nothing to do, or no advice is known."""


def ok(found: str) -> Verdict:
    """Return a verdict without a problem."""
    return Verdict(Status.OK, found)


def warning(found: str, remedy: str | None) -> Verdict:
    """Return a verdict on a problem that does not stop notifications, or not yet."""
    return Verdict(Status.WARNING, found, remedy)


def failed(found: str, remedy: str | None) -> Verdict:
    """Return a verdict on a problem that stops notifications."""
    return Verdict(Status.FAILED, found, remedy)


def milliseconds(seconds: float) -> str:
    """Return a duration in milliseconds, with three digits at most: ``0.42 ms``."""
    value = seconds * 1000
    return f"{value:.0f} ms" if value >= 99.95 else f"{value:.1f} ms" if value >= 9.995 else f"{value:.2f} ms"


# TLS

TLS_QUERY = (
    "SELECT ssl::pg_catalog.text, version, cipher FROM pg_catalog.pg_stat_ssl "
    "WHERE pid = pg_catalog.pg_backend_pid()"
)

_VERIFIED = {"verify-ca": "the certificate is verified, but not its name", "verify-full": "verified"}
_VERIFY = "write sslmode=verify-full, and sslrootcert or sslrootcert=system"


def tls(rows: Rows, sslmode: str, *, local: bool, pooled: bool) -> Verdict:
    """Judge the encryption: the answer to `TLS_QUERY`, the effective *sslmode*.

    *local* says that the connection stays on this machine. With *pooled* the server reports the encryption
    between itself and the pooler.
    """
    in_use, protocol, cipher = rows[0] if rows else (None, None, None)
    verified = _VERIFIED.get(sslmode, "nothing is verified")
    if pooled:
        found = f"hidden by a pooler; sslmode={sslmode}: {verified}"
    elif in_use == "true":
        found = f"{protocol} with {cipher}; sslmode={sslmode}: {verified}"
    elif local:
        return ok("not in use: the connection stays on this machine")
    else:
        found = "not in use: other machines on the network path can read and change the data"
        return warning(found, f"turn on ssl in the server, and {_VERIFY}")
    if local or sslmode in _VERIFIED:
        return ok(found)
    return warning(f"{found}: another machine on the network path can pose as the server", _VERIFY)


# The server

VERSION_QUERY = (
    "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')"
)

FIXED_IN = {14: 21, 15: 16, 16: 12, 17: 8, 18: 2}
"""The first minor release of each major in which LISTEN does not fail with 58P01, all of February 2026
(commit "Fix bug where we truncated CLOG that was still needed by LISTEN/NOTIFY"). Newer majors include the
fix, older ones never got it."""


def version(rows: Rows) -> Verdict:
    """Judge the server's version, the answer to `VERSION_QUERY`."""
    ((text, number),) = rows
    major, minor = divmod(int(number or 0), 10000)
    found = f"PostgreSQL {text}"
    if major < min(FIXED_IN):
        return warning(f"{found}: this version gets no more fixes", f"update to {min(FIXED_IN)} or newer")
    if minor < FIXED_IN.get(major, 0):
        return warning(
            f"{found}: LISTEN may fail with 58P01, 'could not access status of transaction'",
            f"update to {major}.{FIXED_IN[major]} or newer; until then a listener repairs the queue itself",
        )
    return ok(found)


ENCODING_QUERY = "SELECT pg_catalog.current_setting('server_encoding')"


def encoding(rows: Rows) -> Verdict:
    """Judge the database's encoding, the answer to `ENCODING_QUERY`."""
    ((name,),) = rows
    if name == "SQL_ASCII":
        return warning(
            "SQL_ASCII: each payload that is not UTF-8 ends a listener's session",
            "use a database created with ENCODING 'UTF8'",
        )
    if name == "UTF8":
        return ok(name)
    return ok(
        f"{name}: channels and payloads cannot contain other characters; a channel has at most 63 bytes in it"
    )


# The queue

QUEUE_QUERY = (
    "SELECT pg_catalog.pg_notification_queue_usage()::pg_catalog.text, "
    "pg_catalog.current_setting('max_notify_queue_pages', true), pg_catalog.current_setting('block_size')"
)

OLDEST_TRANSACTION_QUERY = (
    "SELECT pid::pg_catalog.text, usename::pg_catalog.text, state, "
    "extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::pg_catalog.int8::pg_catalog.text "
    "FROM pg_catalog.pg_stat_activity "
    "WHERE xact_start IS NOT NULL AND backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid() "
    "ORDER BY xact_start LIMIT 1"
)
"""A listener in a transaction reads nothing, so the server cannot empty the queue."""

DEFAULT_QUEUE_PAGES = 1048576
"""Default of max_notify_queue_pages, and the size of the queue before PostgreSQL 17 added that setting."""

QUEUE_WARNING = 0.1
"""Used share of the queue. The server empties the queue long before, unless a session prevents that."""

QUEUE_FAILED = 0.9
"""Used share of the queue. When the queue is full, each transaction with a NOTIFY fails."""


def queue_is_filling(rows: Rows) -> bool:
    """Return whether to look for the session that fills the queue; *rows* as in `queue`."""
    return float(rows[0][0] or 0) > QUEUE_WARNING


def queue(rows: Rows, oldest: Rows) -> Verdict:
    """Judge the queue: the answers to `QUEUE_QUERY` and `OLDEST_TRANSACTION_QUERY`."""
    ((usage_text, pages, block_size),) = rows
    usage = float(usage_text or 0)
    size = int(pages or DEFAULT_QUEUE_PAGES) * int(block_size or 8192)
    found = f"{usage:.0%} of {_bytes(size)} in use"
    if usage <= QUEUE_WARNING:
        return ok(found)
    if oldest:
        pid, user, state, age = oldest[0]
        found += (
            f"; the oldest transaction may keep it full: server process {pid}, {user}, {state} for {age} s"
        )
        remedy = f"end that transaction, or its session: SELECT pg_terminate_backend({pid})"
    else:
        remedy = (
            "end the listening session that is in a transaction: see xact_start in pg_stat_activity, as a "
            "superuser or a member of pg_monitor"
        )
    return failed(found, remedy) if usage > QUEUE_FAILED else warning(found, remedy)


def _bytes(size: int) -> str:
    for unit in ("kB", "MB"):
        size_in_unit = size / 1024
        if size_in_unit < 1024:
            return f"{size_in_unit:.0f} {unit}"
        size //= 1024
    return f"{size / 1024:.0f} GB"


# Limits

TIMEOUTS_QUERY = (
    "SELECT name, setting FROM pg_catalog.pg_settings "
    "WHERE name IN ('idle_session_timeout', 'statement_timeout')"
)
"""Milliseconds, as set in this session. idle_session_timeout exists since PostgreSQL 14."""

SHORT_STATEMENT_TIMEOUT = 1.0
"""Seconds. A LISTEN takes a millisecond, but far longer for thousands of channels or behind other commits."""


def timeouts(rows: Rows, heartbeat_interval: float) -> Verdict:
    """Judge the timeouts of sessions and queries: the answer to `TIMEOUTS_QUERY`.

    *heartbeat_interval* is the seconds between two pings of a listener.
    """
    limits = {str(name): int(setting or 0) / 1000 for name, setting in rows}
    idle, statement = limits.get("idle_session_timeout", 0.0), limits.get("statement_timeout", 0.0)
    found = ", ".join(
        f"{name} {f'{limit:g} s' if limit else 'off'}" for name, limit in sorted(limits.items())
    )
    problems: list[str] = []
    remedies: list[str] = []
    if 0 < idle <= heartbeat_interval:
        problems.append(
            f"the server ends a session that is idle for {idle:g} s, but a listener pings only "
            f"every {heartbeat_interval:g} s"
        )
        remedies.append(
            f"set the listener's heartbeat_interval below {idle:g} s, or ALTER ROLE ... SET "
            "idle_session_timeout = 0"
        )
    if 0 < statement < SHORT_STATEMENT_TIMEOUT:
        problems.append("LISTEN of many channels may take longer than statement_timeout allows")
        remedies.append(f"ALTER ROLE ... SET statement_timeout = '{SHORT_STATEMENT_TIMEOUT:g}s' or more")
    if problems:
        return warning(f"{found}: {'; '.join(problems)}", "; ".join(remedies))
    return ok(found)


CAPACITY_QUERY = """\
SELECT pg_catalog.current_setting('max_connections'),
       pg_catalog.current_setting('superuser_reserved_connections'),
       pg_catalog.current_setting('reserved_connections', true),
       (SELECT pg_catalog.sum(numbackends)::pg_catalog.text FROM pg_catalog.pg_stat_database),
       r.rolsuper::pg_catalog.text,
       r.rolconnlimit::pg_catalog.text,
       (SELECT pg_catalog.count(*)::pg_catalog.text FROM pg_catalog.pg_stat_activity WHERE usesysid = r.oid),
       d.datconnlimit::pg_catalog.text,
       (SELECT numbackends::pg_catalog.text FROM pg_catalog.pg_stat_database WHERE datid = d.oid)
FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
WHERE r.rolname = session_user AND d.datname = pg_catalog.current_database()"""

FEW_CONNECTIONS = 5
"""Fewest free connections: each process of an application server has a listener that must reconnect."""


def capacity(rows: Rows) -> Verdict:
    """Judge how many connections are left: the answer to `CAPACITY_QUERY`."""
    row = list(rows[0])
    is_superuser = row.pop(4) == "true"
    maximum, superusers, reserved, used, of_role, used_by_role, of_database, used_in_database = (
        int(value or 0) for value in row
    )
    reserved_for_others = 0 if is_superuser else superusers + reserved
    found = [f"{max(0, maximum - reserved_for_others - used)} of {maximum} connections are free"]
    free = {"raise max_connections": maximum - reserved_for_others - used}
    for owner, limit, in_use in (
        ("role", of_role, used_by_role),
        ("database", of_database, used_in_database),
    ):
        if limit >= 0 and not is_superuser:
            found.append(f"{max(0, limit - in_use)} of the {owner}'s {limit}")
            free[f"raise the {owner}'s CONNECTION LIMIT"] = limit - in_use
    remedy = min(free, key=lambda what: free[what])
    if free[remedy] < FEW_CONNECTIONS:
        return warning(", ".join(found), f"close idle sessions, or {remedy}")
    return ok(", ".join(found))
