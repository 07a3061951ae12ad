"""libpq's keywords: the environment variable of each, and what its value may be.

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
"""What a URI begins with, in lower case only (PostgreSQL docs, libpq, "Connection URIs")."""

TLS_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
"""Protocol versions that libpq knows, oldest first, in lower case: it compares without regard to case."""

ALIASES = {
    "database": "dbname",
    "db": "dbname",
    "username": "user",
    "passwd": "password",
    "schema": "options",
}
"""What other drivers call a keyword, and difflib would not find near enough."""

_INT32 = 2**31

SHORT = 100_000
"""What a message may repeat is less: five digits, as a port has, are no secret."""

_KEEPALIVE_SECONDS = range(1, 32767 + 1)  # MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, linux/include/net/tcp.h
_KEEPALIVE_PROBES = range(1, 127 + 1)  # MAX_TCP_KEEPCNT, likewise
_SWALLOWED = re.compile(r"(?:passw(?:or)?d|passphrase|pwd)[ \t]*=", re.IGNORECASE)
_AUTH_METHODS = frozenset({"password", "md5", "gss", "sspi", "scram-sha-256", "none"})

Check = Callable[[str], "str | None"]
"""Returns what is wrong with a value and what to write instead, to follow the keyword; or ``None``."""


class Keyword(NamedTuple):
    """One of libpq's keywords."""

    variable: str | None
    """The environment variable that stands in for it, if there is one."""
    check: Check


def what_else(keyword: str) -> str:
    """Return a hint at what may have been meant by *keyword*, which is none."""
    near = ALIASES.get(keyword.lower()) or next(iter(get_close_matches(keyword.lower(), KEYWORDS, 1)), None)
    return (
        f"did you mean {near}?"
        if near
        else 'see "Parameter Key Words" in PostgreSQL\'s documentation of libpq'
    )


def swallowed(keyword: str, value: str) -> str | None:
    """Return what is wrong with a *value* that has a whole password in it, which messages would show.

    Settings with a semicolon between them end so, a blank that is missing, and a URI in the place of a
    name.
    """
    if keyword in SECRETS or keyword == "options":
        return None
    if _SWALLOWED.search(value):
        return "has password= in it: between settings write a blank, in a URI an & after the ?"
    if value.startswith(URI_PREFIXES):
        return "is a URI: that takes the place of the whole connection string"
    return None


def _shown(value: str) -> str:
    """Quote a value for a message, cut where nobody would read on."""
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
    # libpq looks for a section without a name then, and in vain.
    return None if value else "is empty: write a service's name, or leave it out"


def integer(value: str) -> int | None:
    """Read an integer as libpq does (blanks and a sign allowed, 32 bits); ``None`` if it is none."""
    if not re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]{1,20}[ \t\n\v\f\r]*", value):
        return None
    number = int(value)
    return number if -_INT32 <= number < _INT32 else None


def _integer(what: str, allowed: range | None = None) -> Check:
    def check(value: str) -> str | None:
        number = integer(value)
        if number is not None and (allowed is None or number in allowed):
            return None
        # Only a short number is repeated: of "postgresql://user:secret" libpq makes a port "secret", and a
        # secret may be of digits.
        shown = str(number) if number is not None and abs(number) < SHORT else "a number out of range"
        found = f"is {shown}" if number is not None else "is not an integer"
        limits = f" between {allowed[0]} and {allowed[-1]}" if allowed else ""
        return f"{found}: write {what}{limits}"

    return check


def _each(check: Check) -> Check:
    """Return a check of each element of a list with commas, of which any may be empty."""

    def check_all(value: str) -> str | None:
        complaints = (check(element) for element in value.split(",") if element)
        return next(filter(None, complaints), None)

    return check_all


def _host(value: str) -> str | None:
    if value.startswith(("/", "@")):
        return None
    if "@" in value:
        return "has an @ in it: name the host alone, the user goes into user"
    if any(c.isspace() or not c.isprintable() for c in value):
        return "has blanks or control characters in it: write a host name or a Unix socket's directory"
    return None


def is_numeric(host: str) -> bool:
    """Whether *host* is an address, IPv4 or IPv6, that needs no looking up."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _hostaddr(value: str) -> str | None:
    if "@" in value:
        return "has an @ in it: write the address alone, the user goes into user"
    if is_numeric(value):
        return None
    return f"is {_shown(value)}: write a numeric IPv4 or IPv6 address, a name goes into host"


def _client_encoding(value: str) -> str | None:
    if value.lower() in {"", "utf8", "utf-8", "auto"}:
        return None
    return f"is {_shown(value)}: it is UTF8 always, leave it out"


def _tls_version(value: str) -> str | None:
    if value.lower() in {"", *TLS_VERSIONS}:
        return None
    return f"is {_shown(value)}: write TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"


def _require_auth(value: str) -> str | None:
    # Empty, it is no method and not any method (check_expected_areq in fe-auth.c): no login is left.
    methods = value.split(",")
    negated = [method.startswith("!") for method in methods]
    names = [method.removeprefix("!") for method in methods]
    known = all(name in _AUTH_METHODS for name in names)
    if known and len(set(names)) == len(names) and len(set(negated)) <= 1:
        return None
    return (
        f"is {_shown(value)}: write each of {', '.join(sorted(_AUTH_METHODS))} once at most, "
        "with commas between them, and ! before all or none"
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
        # PGCLIENTENCODING is none of ours: a payload that it cannot express would end the session.
        "client_encoding": Keyword(None, _client_encoding),
        "options": Keyword("PGOPTIONS", _text),
        "application_name": Keyword("PGAPPNAME", _text),
        "fallback_application_name": Keyword(None, _text),
        "keepalives": Keyword(None, _integer("1, or 0 for none")),
        # Zero means the system's default by libpq's documentation, and fails with EINVAL on Linux.
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
