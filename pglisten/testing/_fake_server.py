"""A server in memory that knows LISTEN and NOTIFY as PostgreSQL does; `FakeBackend` connects to it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterable

import gevent
from gevent.event import Event

from ..backend import ConnInfo, Notification
from ..errors import ConnectionFailed, ConnectionLost, ServerError, copy_for_raise
from ._fake_process import FakeProcess
from ._fake_sql import parse
from ._fake_transaction import FakeTransaction

__all__ = ["FakeServer"]


def _terminated() -> ConnectionLost:
    return ConnectionLost("terminating connection due to administrator command", sqlstate="57P01")


def _cut() -> ConnectionLost:
    return ConnectionLost("server closed the connection unexpectedly")


class FakeServer:
    """A server in memory, for tests without PostgreSQL: ``Listener(backend=FakeBackend(server))``.

    It keeps PostgreSQL's rules on transactions (each query is one), names, lengths, duplicates and order. A
    test can make it fail with `stop` and `start`, `freeze` and `thaw`, `terminate`, `cut`, and the
    attributes below. A forked child that uses it has an empty server of its own.

    ``databases`` are the names that exist; ``None`` means any name. ``in_recovery`` and ``read_only`` set the
    attributes of the same names.
    """

    in_recovery: bool
    """Whether it is a standby: ``pg_is_in_recovery()`` is true, LISTEN and NOTIFY are refused with 25006."""

    read_only: bool
    """Whether its transactions are read-only, as in recovery. LISTEN and NOTIFY are still allowed."""

    refuse: ConnectionFailed | None
    """The error that every attempt to connect raises from now on; ``None``: connections are accepted."""

    refuse_listen: dict[str, ServerError]
    """The error that LISTEN raises, by the channel's name."""

    queries: list[str]
    """Every query that arrived, in order; each is a round trip."""

    def __init__(
        self,
        *,
        databases: Collection[str] | None = None,
        in_recovery: bool = False,
        read_only: bool = False,
    ) -> None:
        self.in_recovery = in_recovery
        self.read_only = read_only
        self.refuse = None
        self.refuse_listen = {}
        self.queries = []
        self._databases = databases
        self._processes: dict[int, FakeProcess] = {}
        self._pids = itertools.count(1001)
        self._running = Event()
        self._running.set()
        self._listens = Event()
        self._owner = os.getpid()

    def __repr__(self) -> str:
        state = "refusing" if self.refuse else "running" if self._running.is_set() else "frozen"
        return f"<FakeServer {state} sessions={len(self._own_processes())}>"

    # What a test calls.

    def notify(self, channel: str, payload: str = "", *, pid: int = 1000) -> None:
        """Deliver a notification to every session that listens to *channel*, as if *pid* had sent it.

        No session has the pid 1000. The arguments are not checked.
        """
        self._publish([Notification(pid, channel, payload)])

    def sessions(self, application_name: str | None = None) -> frozenset[int]:
        """Return the pids of the open sessions: those with that application name, or all (``None``)."""
        return frozenset(
            process.pid
            for process in self._own_processes().values()
            if application_name in (None, process.settings["application_name"])
        )

    def listeners(self, channel: str) -> frozenset[int]:
        """Return the pids of the sessions that listen to *channel*."""
        return frozenset(
            process.pid for process in self._own_processes().values() if channel in process.channels
        )

    def wait_listened(self, channel: str, timeout: float | None = None) -> None:
        """Wait until a session listens to *channel*.

        Raises ``TimeoutError`` after *timeout* seconds; ``None`` waits forever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.listeners(channel):
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._listens.clear()
            if not self._listens.wait(remaining):
                raise TimeoutError(f"no session listened to {channel!r} within {timeout} s")

    def terminate(self, pid: int) -> bool:
        """End the session *pid* as ``pg_terminate_backend`` does; return whether there was one."""
        return self._end([pid], _terminated()) > 0

    def cut(self) -> None:
        """End every session without a reason, as a network does."""
        self._end(list(self._own_processes()), _cut())

    def stop(self) -> None:
        """End every session with 57P01, as a fast shutdown does, and refuse new ones until `start`."""
        self.refuse = ConnectionFailed("connection refused")
        self._end(list(self._own_processes()), _terminated())

    def start(self) -> None:
        """Accept sessions again."""
        self.refuse = None

    def freeze(self) -> None:
        """Keep every session, but answer and deliver nothing until `thaw`."""
        self._running.clear()

    def thaw(self) -> None:
        """Continue, with the queries and the notifications that came meanwhile."""
        self._running.set()
        for process in list(self._own_processes().values()):
            process.flush()

    # What a session calls.

    def accept(self, conninfo: ConnInfo, timeout: float | None) -> FakeProcess:
        """Return the process of a new session. Raises `ConnectionFailed`, at the latest after *timeout* s."""
        gevent.sleep(0)  # no real server answers without a turn of the hub
        if self.refuse is not None:
            raise copy_for_raise(self.refuse)
        if not self._running.wait(timeout):
            raise ConnectionFailed(f"the server did not answer within {timeout} s")
        dbname = conninfo["dbname"]
        if self._databases is not None and dbname not in self._databases:
            raise ConnectionFailed(f'database "{dbname}" does not exist', sqlstate="3D000")
        settings = {
            "client_encoding": "UTF8",
            "server_encoding": "UTF8",
            "application_name": conninfo["application_name"],
        }
        try:
            process = FakeProcess(next(self._pids), settings, self._running)
        except OSError as error:  # no descriptor is free for its pipe
            raise ConnectionFailed(f"no connection to the server in memory: {error.strerror}") from error
        self._own_processes()[process.pid] = process
        return process

    def run(self, process: FakeProcess, sql: str) -> list[tuple[str | None, ...]]:
        """Run one query in one transaction; return the rows of its last statement.

        Raises `ServerError`, or `ConnectionLost` if the session ends.
        """
        process.wait_running()
        self.queries.append(sql)
        transaction = FakeTransaction(
            process,
            sessions=self._own_processes,
            terminate=self.terminate,
            refuse_listen=self.refuse_listen,
            in_recovery=self.in_recovery,
            read_only=self.read_only,
        )
        for statement in parse(sql):
            transaction.run(statement)
        # As at a commit: a statement that failed above has changed nothing.
        process.channels = transaction.channels
        self._listens.set()
        self._publish(transaction.notifications)
        return transaction.rows

    def leave(self, process: FakeProcess) -> None:
        """Remove a session whose client has closed it. Idempotent; does nothing in a forked child."""
        self._own_processes().pop(process.pid, None)

    def _own_processes(self) -> dict[int, FakeProcess]:
        """Return the sessions of this process by pid, without those of the process it was forked from."""
        if self._owner != os.getpid():
            # A byte written to an inherited pipe would wake the parent forever.
            self._processes = {}
            self._owner = os.getpid()
        return self._processes

    def _end(self, pids: Iterable[int], reason: ConnectionLost) -> int:
        own = self._own_processes()
        ended = [own.pop(pid) for pid in pids if pid in own]
        for process in ended:
            process.end(reason)
        return len(ended)

    def _publish(self, notifications: Iterable[Notification]) -> None:
        for notification in notifications:
            for process in list(self._own_processes().values()):
                if notification.channel in process.channels:
                    process.deliver(notification)
