"""The hand-over from the loop to a waiting consumer, over a server in memory."""

from __future__ import annotations

import gevent

from pglisten import Listener
from pglisten.backend import ConnInfo, Notification, Session
from pglisten.testing import FakeBackend, FakeServer
from pglisten.testing._fake import _FakeSession


class _Noting(_FakeSession):
    """Schedules a note in the event loop when it returns notifications."""

    order: list[str]

    def receive(self) -> list[Notification]:
        arrived = super().receive()
        if arrived:
            gevent.get_hub().loop.run_callback(self.order.append, "the loop")
        return arrived


def test_a_waiting_consumer_has_it_before_anything_else_has_a_turn() -> None:
    server = FakeServer()
    order: list[str] = []

    class Connects(FakeBackend):
        def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
            session = _Noting(self.server, self.server.accept(conninfo, timeout))
            session.order = order
            return session

    def consume() -> None:
        listener.get(timeout=20)
        order.append("the consumer")

    with Listener("", backend=Connects(server)) as listener:
        listener.listen("x", timeout=20)
        consumer = gevent.spawn(consume)
        gevent.idle()
        server.notify("x", "")
        consumer.join(timeout=20)
        gevent.idle()
    assert order == ["the consumer", "the loop"]
