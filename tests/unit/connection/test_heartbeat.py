"""When the loop pings and how long it waits for the reply, over a server in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gevent.event import Event

from pglisten import Listener
from pglisten._sql import PING
from pglisten.backend import ConnInfo, Notification, Session
from pglisten.testing import FakeBackend, FakeServer
from pglisten.testing._fake import _FakeSession

INTERVAL, TIMEOUT = 0.2, 0.1


class Recording(_FakeSession):
    """Keeps the seconds that the reply to each ping may take."""

    limits: list[float]
    enough: Callable[[float], bool]
    pinged: Event

    def execute(self, sql: str, timeout: float | None) -> None:
        super().execute(sql, timeout)
        if sql == PING and timeout is not None:
            self.limits.append(timeout)
            if self.enough(timeout):
                self.pinged.set()


class Endless(Recording):
    """Has another notification at each read."""

    def receive(self) -> list[Notification]:
        super().receive()
        return [Notification(1, "x", "")]


@contextmanager
def listening(kind: type[Recording], enough: Callable[[float], bool]) -> Iterator[Recording]:
    sessions: list[Recording] = []

    class Connects(FakeBackend):
        def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
            session = kind(self.server, self.server.accept(conninfo, timeout))
            session.limits, session.enough, session.pinged = [], enough, Event()
            sessions.append(session)
            return session

    with Listener(
        "",
        backend=Connects(FakeServer()),
        queue_size=10,
        overflow="drop_oldest",
        heartbeat_interval=INTERVAL,
        heartbeat_timeout=TIMEOUT,
    ) as listener:
        listener.wait_connected(5)
        yield sessions[0]


def test_in_silence_an_answer_has_the_timeout() -> None:
    with listening(Recording, lambda _: True) as session:
        assert session.pinged.wait(5)
    assert session.limits == [TIMEOUT]


def test_an_endless_burst_has_heartbeats_too_and_an_answer_may_stand_behind_a_part() -> None:
    with listening(Endless, lambda limit: limit > TIMEOUT) as session:
        assert session.pinged.wait(5)
    assert max(session.limits) <= INTERVAL + TIMEOUT
