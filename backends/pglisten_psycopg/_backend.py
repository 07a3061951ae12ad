"""From connection settings to a session."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, ClassVar, cast

import psycopg
from psycopg import pq
from psycopg.pq import ConnStatus, PollingStatus

from pglisten.backend import Backend, ConnInfo, Deadline, server_text
from pglisten_libpq.attempt import Refused, attempt
from pglisten_libpq.settings import check, settings
from pglisten_libpq.verbosity import show_sqlstates
from pglisten_libpq.waiting import Step, descriptor_error, drive

from ._session import Notices, PsycopgSession

__all__ = ["PsycopgBackend"]

STEPS: dict[int, Step] = {
    PollingStatus.READING: Step.READ,
    PollingStatus.WRITING: Step.WRITE,
    PollingStatus.OK: Step.NOTHING,
    PollingStatus.FAILED: Step.NOTHING,
}


class PsycopgBackend(Backend):
    """PostgreSQL through psycopg 3, and so through libpq."""

    name: ClassVar[str] = "psycopg"
    rank: ClassVar[int] = 20  # After psycopg2, which needs less CPU for a notification.

    def description(self) -> str:
        major, minor = divmod(pq.version(), 10000)
        return f"psycopg {psycopg.__version__} ({pq.__impl__}), libpq {major}.{minor}"

    def check(self, conninfo: ConnInfo) -> None:
        check(conninfo, pq.version(), _is_known, "psycopg")

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> PsycopgSession:
        return attempt(conninfo, timeout, lambda deadline: _establish(conninfo, deadline))


def _establish(conninfo: ConnInfo, deadline: Deadline) -> PsycopgSession | Refused | OSError:
    """Return the session, or why there is none."""
    owner = os.getpid()
    # The settings are in no variable: frames that an error keeps alive would hold them.
    pgconn = pq.PGconn.connect_start(_conninfo(settings(conninfo, _is_known)))
    session = None
    try:
        notices = Notices()
        pgconn.notice_handler = notices.hear
        if pgconn.status != ConnStatus.BAD:
            # psycopg's types leave it out; its documents do not.
            show_sqlstates(cast("Any", pgconn).pgconn_ptr, _library())
            drive(lambda: STEPS[pgconn.connect_poll()], lambda: pgconn.socket, deadline, owner=owner)
        if pgconn.status != ConnStatus.OK:
            text = server_text(pgconn.error_message)
            return (not text and descriptor_error()) or Refused(text or "libpq does not say why")
        try:
            session = PsycopgSession(pgconn, notices)
        except OSError as error:  # No descriptor is left for its own.
            return error
        return session
    finally:
        # In a forked child psycopg finishes no connection, unless it is asked to.
        if session is None and os.getpid() == owner:
            pgconn.finish()


def _conninfo(keywords: dict[str, str]) -> bytes:
    """Return *keywords* as libpq's connection string."""
    values = (
        (keyword, value.replace("\\", r"\\").replace("'", r"\'")) for keyword, value in keywords.items()
    )
    return " ".join(f"{keyword}='{value}'" for keyword, value in values).encode()


@functools.cache
def _is_known(keyword: str) -> bool:
    try:
        pq.Conninfo.parse(f"{keyword}=x".encode())
    except psycopg.OperationalError:
        return False
    return True


@functools.cache
def _library() -> str:
    """Return the path of what psycopg calls libpq's functions in: its extension module, or libpq itself."""
    module: Any = sys.modules[pq.PGconn.__module__]
    return str(module.impl.pq._name if pq.__impl__ == "python" else module.__file__)
