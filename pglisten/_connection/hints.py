"""Remedies for failed attempts, to append to the reason. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from .._conninfo import ConnInfo
from ..errors import ConnectionFailed, copy_for_raise

__all__ = ["remedy", "with_remedy"]


class _Advice(NamedTuple):
    """A remedy for failures that match both fields."""

    sqlstate: str | None
    """The server's code; ``None`` for a failure without one."""
    pattern: str
    """Searched for in the message, ignoring case. ``""`` matches any message, in any language."""
    advice: str


_ADVICE = (
    _Advice("25006", "", "a standby cannot LISTEN: name the primary, or all servers as in host=a,b"),
    _Advice("28000", "not permitted to log in", "give the role LOGIN: ALTER ROLE ... LOGIN"),
    _Advice("28000", 'role "[^"]*" does not exist', "correct user, or create the role"),
    _Advice("28000", "client certificate", "set sslcert and sslkey to a certificate made for this user"),
    _Advice("28000", "", "add a line for this user, database, address and encryption to pg_hba.conf"),
    _Advice("28P01", "", "check user and password (the password came from {password_source})"),
    _Advice("3D000", "", "correct dbname, or create the database"),
    _Advice("42501", "", "grant it: GRANT CONNECT ON DATABASE ... TO ..."),
    _Advice("53300", "connections for role", "close sessions of this role, or raise its CONNECTION LIMIT"),
    _Advice(
        "53300",
        "connections for database",
        "close sessions with this database, or raise its CONNECTION LIMIT",
    ),
    _Advice("53300", "", "close idle sessions, or raise max_connections"),
    _Advice("57P03", "", "wait: the server is starting, stopping or recovering"),
    _Advice("58P01", "", "update the server: the minor releases of February 2026 mend this"),
    _Advice(
        "08P01", "unsupported startup parameter", "leave that setting out: the pooler in between refuses it"
    ),
    # The words are libpq's, OpenSSL's, and those of backends that use neither.
    _Advice(None, "certificate has expired|certificate is not yet valid", "renew the server's certificate"),
    _Advice(None, "certificate revoked", "replace the server's certificate, or correct sslcrl"),
    _Advice(
        None,
        "does not match host ?name|hostname mismatch|IP address mismatch",
        "set host to the name in the server's certificate, and hostaddr to its address if need be",
    ),
    _Advice(
        None,
        "self.signed certificate|unable to get (local )?issuer",
        "set sslrootcert to the certificate of the authority that signed the server's",
    ),
    # libpq says no more of a certificate whose name is right.
    _Advice(
        None,
        "certificate verify failed",
        "set sslrootcert to the certificate of the authority that signed the server's, "
        "unless that has expired or is revoked",
    ),
    _Advice(
        None, "alert unknown ca", "use a client certificate (sslcert) of an authority that the server trusts"
    ),
    _Advice(None, "alert certificate (expired|revoked)", "renew the client certificate (sslcert)"),
    _Advice(
        None,
        "does not support SSL|does not do TLS",
        "turn ssl on at the server, or write sslmode=disable if the network is to be trusted",
    ),
    _Advice(
        "0A000", "unsupported frontend protocol", "leave max_protocol_version and min_protocol_version out"
    ),
    _Advice(
        None,
        "only supports protocol version",
        "lower min_protocol_version, or update the server or the pooler in between",
    ),
    # OpenSSL says "bad decrypt" of most wrong passwords. With one in 200 the padding happens to be correct,
    # and OpenSSL complains about the contents, in words that differ between its versions.
    _Advice(
        None,
        "could not load private key file",
        "correct sslpassword, or sslkey: it is no key that this password opens",
    ),
    _Advice(
        None, "no password supplied|wants a password", "set PGPASSWORD, or add a line to the password file"
    ),
    _Advice(None, "does not resolve|not resolved", "correct host, or look at this machine's name service"),
    _Advice(
        None,
        "connection refused",
        "check host and port, that PostgreSQL runs there, and its listen_addresses",
    ),
    # Of a Unix socket, which is also what libpq takes if no host is named.
    _Advice(
        None,
        "no such file or directory",
        "no server has its socket there: name the socket's directory as host, or a machine, "
        "for instance PGHOST=localhost",
    ),
    _Advice(
        None, "no answer within", "check host and port, and for a firewall that drops packets in between"
    ),
    _Advice(
        None,
        "did not answer a query",
        "look for a server that is overloaded, a pooler without a free connection, or a firewall in between",
    ),
    _Advice(None, "unreachable|no route to host", "check host, and this machine's network"),
    _Advice(
        None,
        "invalid response to SSL|expected authentication request|"
        "not speak PostgreSQL|not understand the request for TLS",
        "check host and port: what answers there is not PostgreSQL",
    ),
    _Advice(
        None,
        "closed the connection|connection reset",
        "check host and port, and see the server's log",
    ),
)
"""The first match counts."""


def remedy(sqlstate: str | None, text: str, password_source: str) -> str | None:
    """Return the remedy for a failure with *sqlstate* and *text*; ``None`` if none is known.

    *password_source* says where the password came from.
    """
    for code, pattern, advice in _ADVICE:
        if code == sqlstate and re.search(pattern, text, re.IGNORECASE):
            return advice.format(password_source=password_source)
    return None


def with_remedy(error: ConnectionFailed, target: ConnInfo) -> ConnectionFailed:
    """Return *error* with its remedy appended, if one is known."""
    advice = remedy(error.sqlstate, str(error), target.password_source)
    if advice is None:
        return error
    advised = copy_for_raise(error)
    advised.args = (f"{error} (remedy: {advice})",)
    return advised
