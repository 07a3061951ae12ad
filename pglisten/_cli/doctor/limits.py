"""The doctor's steps over the network, each with a limit that holds whatever the server does.

A backend's own limit is longer while data keeps arriving, because the answer may be among the data.
"""

from __future__ import annotations

import gevent

from ..._connection import connect as dial
from ..._conninfo import ConnInfo
from ...backend import Backend, Session
from ...errors import ConnectionFailed, ConnectionLost

__all__ = ["connect", "execute", "fetch"]

GRACE_PERIOD = 0.1
"""Seconds after the limit in which the backend can report the timeout itself."""


def connect(backend: Backend, target: ConnInfo, timeout: float) -> Session:
    """Return a session with *target*. Raises `ConnectionFailed`, at the latest after *timeout* seconds."""
    late = ConnectionFailed(f"{target.description}: no answer within {timeout:g} s")
    with gevent.Timeout(timeout + GRACE_PERIOD, late):
        return dial.connect(backend, target, timeout)


def execute(session: Session, sql: str, timeout: float) -> None:
    """Run *sql*. Raises the errors of ``Session.execute``, and `ConnectionLost` after *timeout* seconds."""
    with gevent.Timeout(timeout + GRACE_PERIOD, _late(timeout)):
        session.execute(sql, timeout)


def fetch(session: Session, sql: str, timeout: float) -> list[tuple[str | None, ...]]:
    """Return the rows of *sql*. Raises the errors of `execute`."""
    with gevent.Timeout(timeout + GRACE_PERIOD, _late(timeout)):
        return session.fetch(sql, timeout)


def _late(timeout: float) -> ConnectionLost:
    return ConnectionLost(f"the server did not answer a query within {timeout:g} s")
