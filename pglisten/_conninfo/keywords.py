"""libpq's keywords, each with its environment variable and a check of its value.

The table is that of libpq 17 (``PQconninfoOptions`` in fe-connect.c; PostgreSQL docs, libpq,
"Parameter Key Words" and "Environment Variables").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from types import MappingProxyType
from typing import NamedTuple

from .._text import printable

__all__ = [
    "KEYWORDS",
    "SECRETS",
    "TLS_VERSIONS",
    "URI_PREFIXES",
    "Keyword",
    "integer",
    "is_numeric",
    "swallowed",
    "what_else",
]

SECRETS = frozenset({"password", "sslpassword"})
"""Keywords whose values never appear in a message or a repr."""

URI_PREFIXES = ("postgresql://", "postgres://")
"""The beginnings of a URI, in lower case only (PostgreSQL docs, libpq, "Connection URIs")."""

TLS_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
"""Protocol versions that libpq knows, oldest first, in lower case. libpq ignores case here."""

ALIASES = {
    "database": "dbname",
    "db": "dbname",
    "username": "user",
    "passwd": "password",
    "schema": "options",
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

_INT32 = 2**31

SHORT = 100_000
"""A message repeats only smaller numbers: five digits, as a port has, are not a secret."""

_KEEPALIVE_SECONDS = range(1, 32767 + 1)  # MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, linux/include/net/tcp.h
_KEEPALIVE_PROBES = range(1, 127 + 1)  # MAX_TCP_KEEPCNT, likewise
_SWALLOWED = re.compile(r"(?:passw(?:or)?d|passphrase|pwd)[ \t]*=", re.IGNORECASE)
_AUTH_METHODS = frozenset({"password", "md5", "gss", "sspi", "scram-sha-256", "none"})

Check = Callable[[str], "str | None"]
"""Returns the complaint about a value and what to write instead, to append to the keyword; or ``None``."""


class Keyword(NamedTuple):
    """One of libpq's keywords."""

    variable: str | None
    """The environment variable that sets it; ``None`` if there is none."""
    check: Check


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


def _shown(value: str) -> str:
    """Return *value* quoted for a message, its first 40 characters at most."""
    return f"'{printable(value[:40])}{'...' if len(value) > 40 else ''}'"


def _text(value: str) -> str | None:
    del value
    return None


def _choice(*choices: str) -> Check:
    def check(value: str) -> str | None:
        return (
            None
            if value in choices
            else f"is {_shown(value)}: write {', '.join(choices[:-1])} or {choices[-1]}"
        )

    return check


def _replication(value: str) -> str | None:
    if not value:
        return None
    return "is set: a replication connection cannot LISTEN, leave it out"


def _service(value: str) -> str | None:
    # libpq would look for a section without a name, and find none.
    return None if value else "is empty: write a service's name, or leave it out"


def integer(value: str) -> int | None:
    """Read an integer as libpq does (blanks and a sign allowed, 32 bits); ``None`` if *value* is not one."""
    if not re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]{1,20}[ \t\n\v\f\r]*", value):
        return None
    number = int(value)
    return number if -_INT32 <= number < _INT32 else None


def _integer(what: str, allowed: range | None = None) -> Check:
    def check(value: str) -> str | None:
        number = integer(value)
        if number is not None and (allowed is None or number in allowed):
            return None
        # Repeat only a short number: libpq reads "postgresql://user:secret" as a port "secret", and a
        # password may consist of digits.
        shown = str(number) if number is not None and abs(number) < SHORT else "a number out of range"
        found = f"is {shown}" if number is not None else "is not an integer"
        limits = f" between {allowed[0]} and {allowed[-1]}" if allowed else ""
        return f"{found}: write {what}{limits}"

    return check


def _each(check: Check) -> Check:
    """Return a check of each element of a list with commas; empty elements are allowed."""

    def check_all(value: str) -> str | None:
        complaints = (check(element) for element in value.split(",") if element)
        return next(filter(None, complaints), None)

    return check_all


def _host(value: str) -> str | None:
    if value.startswith(("/", "@")):
        return None
    if "@" in value:
        return "contains an @: write only the host, the user goes into user"
    if any(c.isspace() or not c.isprintable() for c in value):
        return "contains blanks or control characters: write a host name or a Unix socket's directory"
    return None


def is_numeric(host: str) -> bool:
    """Return whether *host* is an IPv4 or IPv6 address, which needs no resolution."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _hostaddr(value: str) -> str | None:
    if "@" in value:
        return "contains an @: write only the address, the user goes into user"
    if is_numeric(value):
        return None
    return f"is {_shown(value)}: write a numeric IPv4 or IPv6 address; a name goes into host"


def _client_encoding(value: str) -> str | None:
    if value.lower() in {"", "utf8", "utf-8", "auto"}:
        return None
    return f"is {_shown(value)}: it is always UTF8, leave it out"


def _tls_version(value: str) -> str | None:
    if value.lower() in {"", *TLS_VERSIONS}:
        return None
    return f"is {_shown(value)}: write TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"


def _require_auth(value: str) -> str | None:
    # An empty value allows no method at all, so that every login fails (check_expected_areq in fe-auth.c).
    methods = value.split(",")
    negated = [method.startswith("!") for method in methods]
    names = [method.removeprefix("!") for method in methods]
    known = all(name in _AUTH_METHODS for name in names)
    if known and len(set(names)) == len(names) and len(set(negated)) <= 1:
        return None
    return (
        f"is {_shown(value)}: write each of {', '.join(sorted(_AUTH_METHODS))} at most once, "
        "separated by commas, with ! before all or none"
    )


_FLAG = _choice("0", "1")

KEYWORDS: Mapping[str, Keyword] = MappingProxyType(
    {
        "service": Keyword("PGSERVICE", _service),
        "user": Keyword("PGUSER", _text),
        "password": Keyword("PGPASSWORD", _text),
        "passfile": Keyword("PGPASSFILE", _text),
        "channel_binding": Keyword("PGCHANNELBINDING", _choice("disable", "prefer", "require")),
        "connect_timeout": Keyword("PGCONNECT_TIMEOUT", _integer("whole seconds, 0 for no limit")),
        "dbname": Keyword("PGDATABASE", _text),
        "host": Keyword("PGHOST", _each(_host)),
        "hostaddr": Keyword("PGHOSTADDR", _each(_hostaddr)),
        "port": Keyword("PGPORT", _each(_integer("a port number", range(1, 65535 + 1)))),
        # PGCLIENTENCODING is ignored: a payload that it cannot express would end the session.
        "client_encoding": Keyword(None, _client_encoding),
        "options": Keyword("PGOPTIONS", _text),
        "application_name": Keyword("PGAPPNAME", _text),
        "fallback_application_name": Keyword(None, _text),
        "keepalives": Keyword(None, _integer("1, or 0 for none")),
        # By libpq's documentation 0 means the system's default; on Linux it fails with EINVAL.
        "keepalives_idle": Keyword(None, _integer("seconds", _KEEPALIVE_SECONDS)),
        "keepalives_interval": Keyword(None, _integer("seconds", _KEEPALIVE_SECONDS)),
        "keepalives_count": Keyword(None, _integer("a number", _KEEPALIVE_PROBES)),
        "tcp_user_timeout": Keyword(None, _integer("milliseconds, 0 for the system's default")),
        "sslmode": Keyword(
            "PGSSLMODE", _choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
        ),
        "sslnegotiation": Keyword("PGSSLNEGOTIATION", _choice("postgres", "direct")),
        "sslcompression": Keyword("PGSSLCOMPRESSION", _FLAG),
        "sslcert": Keyword("PGSSLCERT", _text),
        "sslkey": Keyword("PGSSLKEY", _text),
        "sslcertmode": Keyword("PGSSLCERTMODE", _choice("disable", "allow", "require")),
        "sslpassword": Keyword(None, _text),
        "sslrootcert": Keyword("PGSSLROOTCERT", _text),
        "sslcrl": Keyword("PGSSLCRL", _text),
        "sslcrldir": Keyword("PGSSLCRLDIR", _text),
        "sslsni": Keyword("PGSSLSNI", _FLAG),
        "requirepeer": Keyword("PGREQUIREPEER", _text),
        "require_auth": Keyword("PGREQUIREAUTH", _require_auth),
        "ssl_min_protocol_version": Keyword("PGSSLMINPROTOCOLVERSION", _tls_version),
        "ssl_max_protocol_version": Keyword("PGSSLMAXPROTOCOLVERSION", _tls_version),
        "gssencmode": Keyword("PGGSSENCMODE", _choice("disable", "prefer", "require")),
        "krbsrvname": Keyword("PGKRBSRVNAME", _text),
        "gsslib": Keyword("PGGSSLIB", _text),
        "gssdelegation": Keyword("PGGSSDELEGATION", _FLAG),
        "replication": Keyword(None, _replication),
        "target_session_attrs": Keyword(
            "PGTARGETSESSIONATTRS",
            _choice("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
        ),
        "load_balance_hosts": Keyword("PGLOADBALANCEHOSTS", _choice("disable", "random")),
    }
)
"""Every keyword by its name."""
