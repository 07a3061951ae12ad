"""Checks of the values of libpq's keywords.

A check returns the complaint, to append to the keyword, or ``None``. `keywords` says which keyword has which.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from ipaddress import ip_address

from .._text import printable

__all__ = [
    "KEEPALIVE_PROBES",
    "KEEPALIVE_SECONDS",
    "PROTOCOL_VERSIONS",
    "TLS_VERSIONS",
    "Check",
    "choice",
    "client_encoding",
    "each",
    "host",
    "hostaddr",
    "integer",
    "is_numeric",
    "replication",
    "require_auth",
    "scram_key",
    "service",
    "text",
    "tls_version",
    "whole_number",
]

TLS_VERSIONS = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
"""Protocol versions that libpq knows, oldest first, in lower case. libpq ignores case here."""

PROTOCOL_VERSIONS = ("3.0", "3.2", "latest")
"""Versions of PostgreSQL's protocol, oldest first. There is no 3.1; libpq 18's latest is 3.2."""

_SCRAM_KEY_SIZE = 32
"""Bytes of a SCRAM key: those of a SHA-256 (``SCRAM_MAX_KEY_LEN`` in scram-common.h)."""

_INT32 = 2**31

_SHORT = 100_000
"""A message repeats only smaller numbers: five digits, as a port has, are not a secret."""

KEEPALIVE_SECONDS = range(1, 32767 + 1)
"""What Linux takes: MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL, linux/include/net/tcp.h."""

KEEPALIVE_PROBES = range(1, 127 + 1)
"""What Linux takes: MAX_TCP_KEEPCNT, likewise."""

_AUTH_METHODS = frozenset({"password", "md5", "gss", "sspi", "scram-sha-256", "none"})

Check = Callable[[str], "str | None"]
"""Returns the complaint about a value and what to write instead, to append to the keyword; or ``None``."""


def _shown(value: str) -> str:
    """Return *value* quoted for a message, its first 40 characters at most."""
    return f"'{printable(value[:40])}{'...' if len(value) > 40 else ''}'"


def text(value: str) -> str | None:
    """Take any text."""
    del value
    return None


def choice(*choices: str) -> Check:
    """Return a check for one of *choices*."""

    def check(value: str) -> str | None:
        return (
            None
            if value in choices
            else f"is {_shown(value)}: write {', '.join(choices[:-1])} or {choices[-1]}"
        )

    return check


def replication(value: str) -> str | None:
    """Take nothing: a replication connection cannot LISTEN."""
    if not value:
        return None
    return "is set: a replication connection cannot LISTEN, leave it out"


def service(value: str) -> str | None:
    """Take the name of a service."""
    # libpq would look for a section without a name, and find none.
    return None if value else "is empty: write a service's name, or leave it out"


def integer(value: str) -> int | None:
    """Read an integer as libpq does (blanks and a sign allowed, 32 bits); ``None`` if *value* is not one."""
    if not re.fullmatch(r"[ \t\n\v\f\r]*[+-]?[0-9]{1,20}[ \t\n\v\f\r]*", value):
        return None
    number = int(value)
    return number if -_INT32 <= number < _INT32 else None


def whole_number(what: str, allowed: range | None = None) -> Check:
    """Return a check for an integer, in *allowed* if that is given; messages call it *what*."""

    def check(value: str) -> str | None:
        number = integer(value)
        if number is not None and (allowed is None or number in allowed):
            return None
        # Repeat only a short number: libpq reads "postgresql://user:secret" as a port "secret", and a
        # password may consist of digits.
        shown = str(number) if number is not None and abs(number) < _SHORT else "a number out of range"
        found = f"is {shown}" if number is not None else "is not an integer"
        limits = f" between {allowed[0]} and {allowed[-1]}" if allowed else ""
        return f"{found}: write {what}{limits}"

    return check


def each(check: Check) -> Check:
    """Return a check of each element of a list with commas; empty elements are allowed."""

    def check_all(value: str) -> str | None:
        complaints = (check(element) for element in value.split(",") if element)
        return next(filter(None, complaints), None)

    return check_all


def host(value: str) -> str | None:
    """Take a host name, an address, or a Unix socket's directory."""
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


def hostaddr(value: str) -> str | None:
    """Take a numeric address."""
    if "@" in value:
        return "contains an @: write only the address, the user goes into user"
    if is_numeric(value):
        return None
    return f"is {_shown(value)}: write a numeric IPv4 or IPv6 address; a name goes into host"


def client_encoding(value: str) -> str | None:
    """Take the names of UTF8, the only encoding that expresses every payload."""
    if value.lower() in {"", "utf8", "utf-8", "auto"}:
        return None
    return f"is {_shown(value)}: it is always UTF8, leave it out"


def tls_version(value: str) -> str | None:
    """Take one of `TLS_VERSIONS`, in any case, or nothing."""
    if value.lower() in {"", *TLS_VERSIONS}:
        return None
    return f"is {_shown(value)}: write TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3"


def require_auth(value: str) -> str | None:
    """Take libpq's list of methods."""
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


def scram_key(value: str) -> str | None:
    """Take a key of SCRAM-SHA-256 in base64. No message repeats it, because it is as good as the password."""
    try:
        size = len(base64.b64decode(value, validate=True))
    except ValueError:
        size = 0
    return None if size == _SCRAM_KEY_SIZE else f"is no key: write its {_SCRAM_KEY_SIZE} bytes in base64"
