"""A PostgreSQL in memory, as far as LISTEN and NOTIFY go: the far side of `FakeBackend`."""

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

    It keeps PostgreSQL's rules on transactions (each query is one), names, lengths, duplicates and
    order, and it can be made to misbehave: `stop` and `start`, `freeze` and `thaw`, `terminate`, `cut`,
    and the attributes below. A forked child that uses it has an empty server of its own.

    ``databases`` are the names that exist; ``None``: any. ``in_recovery`` and ``read_only`` are the
    attributes of these names.
    """

    in_recovery: bool
    """Whether it is a standby: ``pg_is_in_recovery()``, and LISTEN and NOTIFY are refused with 25006."""

    read_only: bool
    """Whether its transactions are read-only, as they are in recovery: no obstacle to LISTEN or NOTIFY."""

    refuse: ConnectionFailed | None
    """What every attempt to connect raises from now on; ``None``: nothing."""

    refuse_listen: dict[str, ServerError]
    """What LISTEN of a channel raises, by the channel's name."""

    queries: list[str]
    """Every query that arrived, in order: one round trip each."""

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

    # What a test does to it.

    def notify(self, channel: str, payload: str = "", *, pid: int = 1000) -> None:
        """Deliver a notification to every session that listens to *channel*, as if *pid* had sent it.

        A pid of a session's own is never 1000. Nothing is checked.
        """
        self._publish([Notification(pid, channel, payload)])

    def sessions(self, application_name: str | None = None) -> frozenset[int]:
        """Return the pids of the sessions that are open: with that application name, or all."""
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
        """Wait until some session listens to *channel*.

        Raises ``TimeoutError`` after *timeout* seconds; ``None`` waits for ever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.listeners(channel):
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._listens.clear()
            if not self._listens.wait(remaining):
                raise TimeoutError(f"nobody listened to {channel!r} within {timeout} s")

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
        """Answer nothing and deliver nothing, but keep every session, until `thaw`."""
        self._running.clear()

    def thaw(self) -> None:
        """Go on, with the queries and the notifications that came meanwhile."""
        self._running.set()
        for process in list(self._own_processes().values()):
            process.flush()

    # What a session does with it.

    def accept(self, conninfo: ConnInfo, timeout: float | None) -> FakeProcess:
        """Return the process of a new session. Raises `ConnectionFailed`, after *timeout* seconds too."""
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
        except OSError as error:  # There is no descriptor left for its pipe.
            raise ConnectionFailed(f"no connection to the server in memory: {error.strerror}") from error
        self._own_processes()[process.pid] = process
        return process

    def run(self, process: FakeProcess, sql: str) -> list[tuple[str | None, ...]]:
        """Run one query in one transaction; return the rows of its last statement.

        Raises `ServerError`; `ConnectionLost` if the session ends.
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
        # Only here, as at commit: whatever failed above has left no trace.
        process.channels = transaction.channels
        self._listens.set()
        self._publish(transaction.notifications)
        return transaction.rows

    def leave(self, process: FakeProcess) -> None:
        """Forget a session whose client has gone. Idempotent, and nothing in a forked child."""
        self._own_processes().pop(process.pid, None)

    def _own_processes(self) -> dict[int, FakeProcess]:
        """Return the sessions by pid, without those of the process that this one was forked from."""
        if self._owner != os.getpid():
            # To write to their pipes would wake the parent, for nothing and for ever.
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
