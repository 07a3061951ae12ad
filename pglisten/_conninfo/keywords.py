"""libpq's keywords, each with its environment variable and a check of its value.

The table is that of libpq 18 (``PQconninfoOptions`` in fe-connect.c; PostgreSQL docs, libpq,
"Parameter Key Words" and "Environment Variables").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple

from . import checks

__all__ = [
    "KEYWORDS",
    "SECRETS",
    "URI_PREFIXES",
    "Keyword",
    "swallowed",
    "what_else",
]

SECRETS = frozenset(
    {"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"}
)
"""Keywords whose values never appear in a message or a repr."""

URI_PREFIXES = ("postgresql://", "postgres://")
"""The beginnings of a URI, in lower case only (PostgreSQL docs, libpq, "Connection URIs")."""

ALIASES = {
    "database": "dbname",
    "db": "dbname",
    "username": "user",
    "passwd": "password",
    "schema": "options",
    "ssl": "sslmode",
}
"""Names that other drivers use for a keyword and that difflib does not find."""

OF_OTHER_DRIVERS = frozenset(
    {
        # asyncpg
        "command_timeout", "max_cached_statement_lifetime", "max_cacheable_statement_size", "server_settings",
        "prepared_statement_cache_size", "prepared_statement_name_func", "statement_cache_size",
        "async_fallback",
        # pg8000
        "ssl_context", "tcp_keepalive", "timeout", "unix_sock",
        # psycopg
        "autocommit", "prepare_threshold",
        # Prisma, node-postgres, and pools
        "charset", "connection_limit", "pgbouncer", "pool_size", "pool_timeout", "statement_timeout",
    }
)  # fmt: skip
"""Parameters that URLs of other drivers have, and libpq has not."""

_SWALLOWED = re.compile(r"(?:passw(?:or)?d|passphrase|pwd)[ \t]*=", re.IGNORECASE)


class Keyword(NamedTuple):
    """One of libpq's keywords."""

    variable: str | None
    """The environment variable that sets it; ``None`` if there is none."""
    check: checks.Check


def what_else(keyword: str) -> str:
    """Return a hint at the keyword that the unknown *keyword* may stand for."""
    if keyword.lower() in OF_OTHER_DRIVERS:
        return "only another driver knows it: give it to that driver's own call (SQLAlchemy: connect_args)"
    near = ALIASES.get(keyword.lower()) or next(iter(get_close_matches(keyword.lower(), KEYWORDS, 1)), None)
    return (
        f"did you mean {near}?"
        if near
        else 'see "Parameter Key Words" in PostgreSQL\'s documentation of libpq'
    )


def swallowed(keyword: str, value: str) -> str | None:
    """Return the complaint about a *value* that contains another setting, possibly a password; or ``None``.

    Messages would show that password. The causes are a semicolon between settings, a missing blank, and a URI
    in place of a name.
    """
    if keyword in SECRETS or keyword == "options":
        return None
    if _SWALLOWED.search(value):
        return "contains password=: separate settings by a blank, in a URI by an & after the ?"
    if value.startswith(URI_PREFIXES):
        return "is a URI: a URI replaces the whole connection string"
    return None


_FLAG = checks.choice("0", "1")
_PROTOCOL = checks.choice(*checks.PROTOCOL_VERSIONS)

KEYWORDS: Mapping[str, Keyword] = MappingProxyType(
    {
        "service": Keyword("PGSERVICE", checks.service),
        "user": Keyword("PGUSER", checks.text),
        "password": Keyword("PGPASSWORD", checks.text),
        "passfile": Keyword("PGPASSFILE", checks.text),
        "channel_binding": Keyword("PGCHANNELBINDING", checks.choice("disable", "prefer", "require")),
        "connect_timeout": Keyword("PGCONNECT_TIMEOUT", checks.whole_number("whole seconds, 0 for no limit")),
        "dbname": Keyword("PGDATABASE", checks.text),
        "host": Keyword("PGHOST", checks.each(checks.host)),
        "hostaddr": Keyword("PGHOSTADDR", checks.each(checks.hostaddr)),
        "port": Keyword("PGPORT", checks.each(checks.whole_number("a port number", range(1, 65535 + 1)))),
        # PGCLIENTENCODING is ignored: a payload that it cannot express would end the session.
        "client_encoding": Keyword(None, checks.client_encoding),
        "options": Keyword("PGOPTIONS", checks.text),
        "application_name": Keyword("PGAPPNAME", checks.text),
        "fallback_application_name": Keyword(None, checks.text),
        "keepalives": Keyword(None, checks.whole_number("1, or 0 for none")),
        # By libpq's documentation 0 means the system's default; on Linux it fails with EINVAL.
        "keepalives_idle": Keyword(None, checks.whole_number("seconds", checks.KEEPALIVE_SECONDS)),
        "keepalives_interval": Keyword(None, checks.whole_number("seconds", checks.KEEPALIVE_SECONDS)),
        "keepalives_count": Keyword(None, checks.whole_number("a number", checks.KEEPALIVE_PROBES)),
        "tcp_user_timeout": Keyword(None, checks.whole_number("milliseconds, 0 for the system's default")),
        "sslmode": Keyword(
            "PGSSLMODE", checks.choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
        ),
        "sslnegotiation": Keyword("PGSSLNEGOTIATION", checks.choice("postgres", "direct")),
        "sslcompression": Keyword("PGSSLCOMPRESSION", _FLAG),
        "sslcert": Keyword("PGSSLCERT", checks.text),
        "sslkey": Keyword("PGSSLKEY", checks.text),
        "sslcertmode": Keyword("PGSSLCERTMODE", checks.choice("disable", "allow", "require")),
        "sslpassword": Keyword(None, checks.text),
        "sslrootcert": Keyword("PGSSLROOTCERT", checks.text),
        "sslcrl": Keyword("PGSSLCRL", checks.text),
        "sslcrldir": Keyword("PGSSLCRLDIR", checks.text),
        "sslsni": Keyword("PGSSLSNI", _FLAG),
        "requirepeer": Keyword("PGREQUIREPEER", checks.text),
        "require_auth": Keyword("PGREQUIREAUTH", checks.require_auth),
        "min_protocol_version": Keyword("PGMINPROTOCOLVERSION", _PROTOCOL),
        "max_protocol_version": Keyword("PGMAXPROTOCOLVERSION", _PROTOCOL),
        "ssl_min_protocol_version": Keyword("PGSSLMINPROTOCOLVERSION", checks.tls_version),
        "ssl_max_protocol_version": Keyword("PGSSLMAXPROTOCOLVERSION", checks.tls_version),
        "gssencmode": Keyword("PGGSSENCMODE", checks.choice("disable", "prefer", "require")),
        "krbsrvname": Keyword("PGKRBSRVNAME", checks.text),
        "gsslib": Keyword("PGGSSLIB", checks.text),
        "gssdelegation": Keyword("PGGSSDELEGATION", _FLAG),
        "replication": Keyword(None, checks.replication),
        "target_session_attrs": Keyword(
            "PGTARGETSESSIONATTRS",
            checks.choice("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
        ),
        "load_balance_hosts": Keyword("PGLOADBALANCEHOSTS", checks.choice("disable", "random")),
        "scram_client_key": Keyword(None, checks.scram_key),
        "scram_server_key": Keyword(None, checks.scram_key),
        "oauth_issuer": Keyword(None, checks.text),
        "oauth_client_id": Keyword(None, checks.text),
        "oauth_client_secret": Keyword(None, checks.text),
        "oauth_scope": Keyword(None, checks.text),
        "sslkeylogfile": Keyword(None, checks.text),
    }
)
"""Every keyword by its name."""
