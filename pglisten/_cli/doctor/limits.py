"""The doctor's steps over the network, each with a limit that holds whatever the other end does.

A backend's own limit is longer where something comes without end: the answer may be among it.
"""

from __future__ import annotations

import gevent

from ..._connection import connect as dial
from ..._conninfo import ConnInfo
from ...backend import Backend, Session
from ...errors import ConnectionFailed, ConnectionLost

__all__ = ["connect", "execute", "fetch"]

MORE = 0.1
"""Seconds on top of the limit, in which the backend says itself what has gone wrong."""


def connect(backend: Backend, target: ConnInfo, timeout: float) -> Session:
    """Return a session with *target*, or raise `ConnectionFailed`: after *timeout* seconds too."""
    late = ConnectionFailed(f"{target.description}: no answer within {timeout:g} s")
    with gevent.Timeout(timeout + MORE, late):
        return dial.connect(backend, target, timeout)


def execute(session: Session, sql: str, timeout: float) -> None:
    """Run *sql*. Raises what ``Session.execute`` does, `ConnectionLost` after *timeout* seconds."""
    with gevent.Timeout(timeout + MORE, _late(timeout)):
        session.execute(sql, timeout)


def fetch(session: Session, sql: str, timeout: float) -> list[tuple[str | None, ...]]:
    """Return the rows of *sql*. Raises what `execute` does."""
    with gevent.Timeout(timeout + MORE, _late(timeout)):
        return session.fetch(sql, timeout)


def _late(timeout: float) -> ConnectionLost:
    return ConnectionLost(f"the server did not answer a query within {timeout:g} s")
