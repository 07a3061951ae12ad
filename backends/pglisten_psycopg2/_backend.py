"""Opens sessions with psycopg2, and tells libpq every setting."""

from __future__ import annotations

import functools
import os
from typing import ClassVar

import psycopg2
from psycopg2.extensions import connection, libpq_version, make_dsn, parse_dsn

from pglisten.backend import Backend, ConnInfo, Deadline
from pglisten_libpq.attempt import Refused, attempt
from pglisten_libpq.session import leak
from pglisten_libpq.settings import check, settings
from pglisten_libpq.waiting import descriptor_error

from ._libpq import LibpqAccess
from ._session import Psycopg2Session
from ._wait import wait

__all__ = ["Psycopg2Backend"]


class Psycopg2Backend(Backend):
    """Opens sessions with psycopg2, which uses libpq."""

    name: ClassVar[str] = "psycopg2"
    rank: ClassVar[int] = 10  # First: the most widely used, and libpq itself.

    def description(self) -> str:
        major, minor = divmod(libpq_version(), 10000)
        driver = str(psycopg2.__version__)  # type: ignore[attr-defined]  # The stubs lack it.
        return f"psycopg2 {driver.partition(' ')[0]}, libpq {major}.{minor}"

    def check(self, conninfo: ConnInfo) -> None:
        check(conninfo, libpq_version(), _is_known, "psycopg2")

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Psycopg2Session:
        return attempt(conninfo, timeout, lambda deadline: _establish(conninfo, deadline))


class _Connection(connection):
    """psycopg2's connection class, instantiated without ``psycopg2.connect()``.

    APM agents wrap that function: they record payloads, and replace connections and cursors by proxies.
    psycopg2's own repr shows the DSN with ``sslpassword``, and error trackers record reprs.
    """

    def __repr__(self) -> str:
        return f"<psycopg2 connection at {id(self):#x}, closed: {self.closed}>"


def _establish(conninfo: ConnInfo, deadline: Deadline) -> Psycopg2Session | Refused | OSError:
    """Return the session, or why there is none."""
    owner = os.getpid()
    try:
        # Keep the settings out of variables: the frames of an error hold them.
        conn = _Connection(make_dsn(**settings(conninfo, _is_known)), async_=True)
    except psycopg2.Error as error:
        return (not str(error) and descriptor_error()) or Refused(str(error), error)
    try:
        libpq = LibpqAccess(conn)  # Before the first poll, so that refusals have their SQLSTATE.
        failure = wait(conn, deadline, owner=owner)
        made = _session(conn, libpq) if failure is None else Refused(libpq.reason(failure), failure)
        if not isinstance(made, Psycopg2Session):
            conn.close()
        return made
    except BaseException:
        if os.getpid() == owner:
            conn.close()
        else:
            leak(conn)
        raise


def _session(conn: connection, libpq: LibpqAccess) -> Psycopg2Session | Refused | OSError:
    try:
        return Psycopg2Session(conn, libpq)
    except OSError as error:  # No descriptor was left.
        return error
    except psycopg2.Error as error:
        return Refused(str(error), error)


@functools.cache
def _is_known(keyword: str) -> bool:
    """Whether this libpq knows *keyword*. Ask libpq itself, because distributions backport keywords."""
    try:
        parse_dsn(f"{keyword}=x")
    except psycopg2.ProgrammingError:
        return False
    return True
