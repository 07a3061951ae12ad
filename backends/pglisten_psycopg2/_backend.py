"""From connection settings to a session."""

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
"""The first libpq for which ``sslrootcert=system`` is more than a file's name (PostgreSQL 16's notes)."""


EXPLICIT_DEFAULTS = {
    # Trying Kerberos encryption first, as libpq does where there is a ticket, may look up names and
    # wait for a key server, blocking.
    "gssencmode": "disable",
    # A file that cannot be: given none, libpq reads ~/.pgpass and writes to stderr what it dislikes there.
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
    # All there are: "" would allow none (check_expected_areq in fe-auth.c).
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
"""What to say where nothing is said, so that libpq looks at neither its variables nor a service for it:
its own defaults, but for the first two. ``""`` is nothing, where libpq takes that."""

NO_PASSWORD = secrets.token_hex()
"""The ``sslpassword`` that libpq gets if the user gives none.

With any password, OpenSSL never asks on the terminal, neither for an encrypted key nor for an encrypted
certificate (initialize_SSL in fe-secure-openssl.c). It is random, so that it opens nothing. A libpq before
version 13 does not know the setting; there, `ConnInfo.check_key` alone prevents a prompt.
"""

HANDLED_BY_CORE = ("passfile", "target_session_attrs", "load_balance_hosts")
"""What the core has seen to."""


class Psycopg2Backend(Backend):
    """PostgreSQL through psycopg2, and so through libpq."""

    name: ClassVar[str] = "psycopg2"
    rank: ClassVar[int] = 10  # Before pg8000: it is the more widely used, and libpq itself.

    def description(self) -> str:
        major, minor = divmod(libpq_version(), 10000)
        driver = str(psycopg2.__version__)  # type: ignore[attr-defined]  # The stubs lack it.
        return f"psycopg2 {driver.partition(' ')[0]}, libpq {major}.{minor}"

    def check(self, conninfo: ConnInfo) -> None:
        version = libpq_version()
        unknown = [keyword for keyword in _settings(conninfo) if not _is_known(keyword)]
        if conninfo["sslrootcert"] == "system" and version < SYSTEM_ROOTS:
            # It would be taken for a file that is not there, and sslmode=require then verifies nothing.
            unknown.append("sslrootcert=system")
        if ":" in conninfo["sslkey"]:
            # libpq takes it for one in an OpenSSL engine, and an engine may ask for a PIN on the terminal.
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
            # Without its traceback: psycopg2's own frames hold the password.
            cause = session.with_traceback(None)
            raise ConnectionFailed(f"{place}: {message}", sqlstate=sqlstate) from cause
        if isinstance(session, OSError):
            raise ConnectionFailed(f"{place}: {session.strerror or session}") from session
        if session.server_encoding == "SQL_ASCII":
            logger.warning(
                "%s: the database has no encoding (SQL_ASCII): the server ends a listener's session over "
                "each payload that is not UTF-8",
                place,
            )
        return session


class _Connection(connection):
    """psycopg2's own class, made without ``psycopg2.connect()``.

    APM agents wrap that function: they record payloads, and put proxies in place of connections and cursors.
    The repr is ours because psycopg2's shows the DSN, ``sslpassword`` included, and error trackers record it.
    """

    def __repr__(self) -> str:
        return f"<psycopg2 connection at {id(self):#x}, closed: {self.closed}>"


def _establish(conninfo: ConnInfo, deadline: Deadline) -> Psycopg2Session | psycopg2.Error | OSError:
    """Return the session, or the error instead of one.

    An error of these classes that is raised was thrown in from outside, while this waited.
    """
    owner = os.getpid()
    try:
        # In no variable: frames that are left by an error hold them.
        conn = _Connection(make_dsn(**_settings(conninfo)), async_=True)
    except psycopg2.Error as error:
        return error if str(error) else _descriptor_error() or error
    try:
        libpq = LibpqAccess(conn)  # Before the first poll: refusals are to come with their SQLSTATE.
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
    """Return why no descriptor can be had, if so: psycopg2 has no text if libpq could not make its socket."""
    try:
        with open(os.devnull, "rb"):
            return None
    except OSError as error:
        return error


def _with_text(error: psycopg2.Error, libpq: LibpqAccess) -> psycopg2.Error:
    """Return *error* with libpq's own text, if it is libpq's."""
    error.args = (libpq.reason(error),)
    return error


def _session(conn: connection, libpq: LibpqAccess) -> Psycopg2Session | psycopg2.Error | OSError:
    try:
        return Psycopg2Session(conn, libpq)
    except (psycopg2.Error, OSError) as error:  # Its own descriptor, for one, could not be made.
        return error


def _hint(message: str, conninfo: ConnInfo) -> str:
    """Return what to add to libpq's *message*, where that leaves the user to guess."""
    if message.endswith("no password supplied"):
        return f": there is {conninfo.password_source}"
    # Of a server that takes what it gets for a wrong start-up message, libpq says "SSL SYSCALL error: EOF".
    if conninfo["sslnegotiation"] == "direct" and "SSL" in message and "certificate" not in message:
        return "; sslnegotiation=direct takes a PostgreSQL 17 with TLS"
    return ""


@functools.cache
def _is_known(keyword: str) -> bool:
    """Ask this libpq: keywords come with versions, and distributions backport some."""
    try:
        parse_dsn(f"{keyword}=x")
    except psycopg2.ProgrammingError:
        return False
    return True


def _settings(conninfo: ConnInfo) -> dict[str, str]:
    """Return libpq's keywords with all that *conninfo* decided, so that libpq has nothing to add."""
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
    if "sslpassword" in unset and not settings["sslpassword"]:
        settings["sslpassword"] = NO_PASSWORD
    # libpq looks PGSERVICE up by itself, and fails if that is not defined: so it gets the name that counts,
    # whose file adds nothing to all the rest. Without the variable it needs no file.
    service = settings.pop("service", "")
    if "PGSERVICE" in os.environ and service:
        settings["service"] = service
    return settings
