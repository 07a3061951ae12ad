"""Opens sessions with psycopg2, and tells libpq every setting."""

from __future__ import annotations

import functools
import logging
import os
import secrets
from typing import ClassVar

import psycopg2
from psycopg2.extensions import connection, libpq_version, make_dsn, parse_dsn

from pglisten.backend import Backend, ConnInfo, Deadline, DeadlinePassed
from pglisten.errors import ConfigurationError, ConnectionFailed

from ._libpq import LibpqAccess
from ._reasons import explain
from ._session import Psycopg2Session
from ._wait import Forked, leak, wait

__all__ = ["Psycopg2Backend"]

logger = logging.getLogger("pglisten.psycopg2")

SYSTEM_ROOTS = 160000
"""The first libpq that takes ``sslrootcert=system`` for more than a file name (PostgreSQL 16 release
notes)."""


EXPLICIT_DEFAULTS = {
    # libpq's default tries Kerberos encryption first if there is a ticket. It may look up names and wait for
    # a key server, and block the hub.
    "gssencmode": "disable",
    # A file that cannot exist: without a name, libpq reads ~/.pgpass and writes warnings about it to stderr.
    "passfile": "/dev/null/none",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
    "channel_binding": "prefer",
    "sslcertmode": "allow",
    "sslcompression": "0",
    "sslnegotiation": "postgres",
    "sslsni": "1",
    "ssl_min_protocol_version": "TLSv1.2",
    "krbsrvname": "postgres",
    "gssdelegation": "0",
    "connect_timeout": "0",
    # All methods: "" would allow none (check_expected_areq in fe-auth.c).
    "require_auth": "password,md5,gss,sspi,scram-sha-256,none",
    **dict.fromkeys(
        (
            "host", "hostaddr", "password", "options", "application_name", "fallback_application_name",
            "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl", "sslcrldir", "requirepeer",
            "ssl_max_protocol_version", "gsslib", "replication",
        ),
        "",
    ),
}  # fmt: skip
"""Explicit values for every unset keyword, so that libpq consults neither PG* variables nor a service.

They are libpq's own defaults, except the first two. ``""`` means unset, for keywords for which libpq
accepts it.
"""

NO_PASSWORD = secrets.token_hex()
"""The ``sslpassword`` for libpq if the user gives none.

If there is a password, OpenSSL never asks on the terminal, neither for an encrypted key nor for an encrypted
certificate (initialize_SSL in fe-secure-openssl.c). It is random, so that it opens no key. A libpq before
version 13 does not know the setting. With such a libpq, only `ConnInfo.check_key` prevents a prompt.
"""

HANDLED_BY_CORE = ("passfile", "target_session_attrs", "load_balance_hosts")
"""Keywords that the core handles, so that libpq gets their neutral values."""


class Psycopg2Backend(Backend):
    """Opens sessions with psycopg2, which uses libpq."""

    name: ClassVar[str] = "psycopg2"
    rank: ClassVar[int] = 10  # Before pg8000: psycopg2 is more widely used, and is libpq itself.

    def description(self) -> str:
        major, minor = divmod(libpq_version(), 10000)
        driver = str(psycopg2.__version__)  # type: ignore[attr-defined]  # The stubs lack it.
        return f"psycopg2 {driver.partition(' ')[0]}, libpq {major}.{minor}"

    def check(self, conninfo: ConnInfo) -> None:
        version = libpq_version()
        unknown = [keyword for keyword in _settings(conninfo) if not _is_known(keyword)]
        if conninfo["sslrootcert"] == "system" and version < SYSTEM_ROOTS:
            # This libpq would look for a file of that name and not find it: sslmode=require verifies nothing.
            unknown.append("sslrootcert=system")
        if ":" in conninfo["sslkey"]:
            # libpq takes it for a key in an OpenSSL engine, and an engine may ask for a PIN on the terminal.
            raise ConfigurationError("sslkey: no file with ':' in its path is possible here: rename it")
        if unknown:
            raise ConfigurationError(
                f"{', '.join(unknown)}: not known to the libpq {version // 10000} that psycopg2 uses here; "
                "leave it out, or install a psycopg2 with a newer libpq"
            )

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Psycopg2Session:
        place = conninfo.description
        try:
            session = _establish(conninfo, Deadline(timeout))
        except DeadlinePassed:
            raise ConnectionFailed(f"{place}: no answer within {timeout:g} s") from None
        except Forked as error:
            raise ConnectionFailed(f"{place}: {error}") from None
        if isinstance(session, psycopg2.Error):
            message, sqlstate = explain(str(session))
            message += _hint(message, conninfo)
            # Without its traceback: psycopg2's frames hold the password.
            cause = session.with_traceback(None)
            raise ConnectionFailed(f"{place}: {message}", sqlstate=sqlstate) from cause
        if isinstance(session, OSError):
            raise ConnectionFailed(f"{place}: {session.strerror or session}") from session
        if session.server_encoding == "SQL_ASCII":
            logger.warning(
                "%s: the database has no encoding (SQL_ASCII): the server ends a listener's session for "
                "each payload that is not UTF-8",
                place,
            )
        return session


class _Connection(connection):
    """psycopg2's connection class, instantiated without ``psycopg2.connect()``.

    APM agents wrap that function: they record payloads, and replace connections and cursors by proxies.
    psycopg2's own repr shows the DSN with ``sslpassword``, and error trackers record reprs.
    """

    def __repr__(self) -> str:
        return f"<psycopg2 connection at {id(self):#x}, closed: {self.closed}>"


def _establish(conninfo: ConnInfo, deadline: Deadline) -> Psycopg2Session | psycopg2.Error | OSError:
    """Return the session, or the error of the attempt.

    If an error of these classes is raised instead, it was thrown in from outside during a wait.
    """
    owner = os.getpid()
    try:
        # Keep the settings out of variables: the frames of an error hold them.
        conn = _Connection(make_dsn(**_settings(conninfo)), async_=True)
    except psycopg2.Error as error:
        return error if str(error) else _descriptor_error() or error
    try:
        libpq = LibpqAccess(conn)  # Before the first poll, so that refusals have their SQLSTATE.
        failure = wait(conn, deadline, owner=owner)
        made = _session(conn, libpq) if failure is None else _with_text(failure, libpq)
        if isinstance(made, Exception):
            conn.close()
        return made
    except BaseException:
        if os.getpid() == owner:
            conn.close()
        else:
            leak(conn)
        raise


def _descriptor_error() -> OSError | None:
    """Return the error if the system has no descriptor left; ``None`` if it has.

    psycopg2's error has no text if libpq could not make its socket.
    """
    try:
        with open(os.devnull, "rb"):
            return None
    except OSError as error:
        return error


def _with_text(error: psycopg2.Error, libpq: LibpqAccess) -> psycopg2.Error:
    """Return *error* with libpq's own text, if *error* came from libpq."""
    error.args = (libpq.reason(error),)
    return error


def _session(conn: connection, libpq: LibpqAccess) -> Psycopg2Session | psycopg2.Error | OSError:
    try:
        return Psycopg2Session(conn, libpq)
    except (psycopg2.Error, OSError) as error:  # For example, no descriptor was left.
        return error


def _hint(message: str, conninfo: ConnInfo) -> str:
    """Return what to add to libpq's *message* if it does not tell the user enough; ``""`` for nothing."""
    if message.endswith("no password supplied"):
        return f": there is {conninfo.password_source}"
    # A server that does not know direct TLS hangs up, and libpq says "SSL SYSCALL error: EOF".
    if conninfo["sslnegotiation"] == "direct" and "SSL" in message and "certificate" not in message:
        return "; sslnegotiation=direct needs PostgreSQL 17 or newer with TLS"
    return ""


@functools.cache
def _is_known(keyword: str) -> bool:
    """Whether this libpq knows *keyword*. Ask libpq itself, because distributions backport keywords."""
    try:
        parse_dsn(f"{keyword}=x")
    except psycopg2.ProgrammingError:
        return False
    return True


def _settings(conninfo: ConnInfo) -> dict[str, str]:
    """Return a value for every keyword of libpq, so that libpq has nothing to add to *conninfo*."""
    unset = {keyword: value for keyword, value in EXPLICIT_DEFAULTS.items() if _is_known(keyword)}
    settings = {
        **unset,
        **conninfo.values(),
        **{keyword: EXPLICIT_DEFAULTS[keyword] for keyword in HANDLED_BY_CORE if keyword in unset},
        "client_encoding": "UTF8",
        "keepalives": str(int(conninfo.keepalives)),
        "keepalives_idle": str(conninfo.keepalives_idle),
        "keepalives_interval": str(conninfo.keepalives_interval),
        "keepalives_count": str(conninfo.keepalives_count),
        "tcp_user_timeout": str(conninfo.tcp_user_timeout),
    }
    # An explicit "" counts as a name: libpq would then look at no fallback.
    settings["application_name"] = settings["application_name"] or settings["fallback_application_name"]
    if "sslpassword" in unset and not settings["sslpassword"]:
        settings["sslpassword"] = NO_PASSWORD
    # If PGSERVICE is set, libpq looks up that service and fails if it is not defined. So tell libpq the name
    # that counts. Its entry changes nothing, because every other setting is explicit.
    service = settings.pop("service", "")
    if "PGSERVICE" in os.environ and service:
        settings["service"] = service
    return settings
