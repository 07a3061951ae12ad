"""A backend without a driver: its server is in memory, its descriptors are real."""

from __future__ import annotations

from typing import ClassVar

import gevent

from ..backend import MAX_RESULT, Backend, ConnInfo, Notification, Session
from ..errors import ConnectionLost, ServerError, copy_for_raise
from ._fake_process import FakeProcess
from ._fake_server import FakeServer

__all__ = ["FakeBackend"]


class FakeBackend(Backend):
    """Connect to a `FakeServer`; its sessions pass the same contract as sessions with PostgreSQL.

    ``server`` is a new `FakeServer` if none is given. Only ``dbname`` and ``application_name`` of a
    connection string have an effect.
    """

    name: ClassVar[str] = "fake"

    def __init__(self, server: FakeServer | None = None) -> None:
        self.server = FakeServer() if server is None else server

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
        """Establish a session; see `Backend.connect`."""
        return _FakeSession(self.server, self.server.accept(conninfo, timeout))


class _FakeSession(Session):
    def __init__(self, server: FakeServer, process: FakeProcess) -> None:
        self.pid = process.pid
        self._server = server
        self._process = process
        self._fileno = process.fileno()
        # Why no query can run any more; notifications that have arrived can still be received.
        self._dead: ConnectionLost | None = None

    def fileno(self) -> int:
        return self._fileno

    def execute(self, sql: str, timeout: float | None) -> None:
        self._run(sql, timeout)

    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        rows = self._run(sql, timeout)
        if sum(7 + sum(4 + len((value or "").encode()) for value in row) for row in rows) > MAX_RESULT:
            self._dead = ConnectionLost(f"the server sent more than {MAX_RESULT} bytes of rows")
            raise copy_for_raise(self._dead)
        return rows

    def _run(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        if self._dead is not None:
            raise copy_for_raise(self._dead)
        # Until the reply arrives: if the greenlet is killed before, the session can only be closed.
        self._dead = ConnectionLost("a query was abandoned: the session's state is unknown")
        timer = gevent.Timeout(timeout)
        try:
            with timer:
                self._process.begin()
                rows = self._server.run(self._process, sql)
        except ServerError:
            self._end_query()
            raise
        except ConnectionLost as error:
            self._dead = copy_for_raise(error)
            raise
        except gevent.Timeout as error:
            if error is not timer:
                raise
            self._dead = ConnectionLost(f"the server did not answer within {timeout} s")
            raise copy_for_raise(self._dead) from None
        self._end_query()
        return rows

    def receive(self) -> list[Notification]:
        arrived = self._process.take()
        if not arrived and self._dead is not None:
            raise copy_for_raise(self._dead)
        return arrived

    def close(self) -> None:
        self._dead = self._dead or ConnectionLost("the session was closed")
        self._server.leave(self._process)
        self._process.end(self._dead)
        self._process.close()

    def abandon(self) -> None:
        self._dead = self._dead or ConnectionLost("the session was abandoned")
        # In a forked child the pipe is a copy and the server has no sessions, so the parent is not affected.
        self._server.leave(self._process)
        self._process.divert()

    def _end_query(self) -> None:
        self._dead = None
        self._process.finish()
