"""Silently dead links: the heartbeat finds them, whatever the listener is doing.

The limits are those of the options, measured by the library's clock. Two moments frame the last message
received: one before the server was asked for it, one after it had arrived.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerEvent
from pglisten.testing import BOTH, DOWN, UP, Proxy
from pglisten.testing._proxy import Direction
from support.fixtures.listeners import MakeListener, fence
from support.fixtures.proxy import MakeProxy
from support.fixtures.tls import TlsServer
from support.servers.server import PrivateServer, Server

pytestmark = pytest.mark.slow  # Each waits for a silence to become too long.


INTERVAL, TIMEOUT = 0.5, 0.5

ALLOWANCE = 3.0
"""Seconds that a busy machine may add."""

BLACK_HOLES = [("drop", BOTH), ("stall", BOTH), ("hold", DOWN), ("drop", DOWN), ("drop", UP), ("stall", UP)]
HOLE_NAMES = [f"{treatment}-{direction.name or 'BOTH'}" for treatment, direction in BLACK_HOLES]


class Loss:
    """An event callback that keeps the moment and the reason of the first loss."""

    def __init__(self) -> None:
        self.moment = 0.0
        self.error: Exception | None = None
        self._happened = Event()

    def __call__(self, event: ListenerEvent, error: Exception | None) -> None:
        if event is ListenerEvent.DISCONNECTED and not self._happened.is_set():
            self.moment, self.error = time.monotonic(), error
            self._happened.set()

    def between(self, earliest: float, latest: float) -> None:
        """Wait for it, and assert that it came neither before *earliest* nor, after *latest*."""
        assert self._happened.wait(max(0.0, latest - time.monotonic()) + 20), "the loss was never found"
        assert isinstance(self.error, pglisten.ConnectionLost)
        assert self.moment >= earliest, f"given up {earliest - self.moment:.3f} s early: {self.error}"
        assert self.moment <= latest + ALLOWANCE, f"found {self.moment - latest:.3f} s late: {self.error}"


@pytest.fixture
def loss() -> Loss:
    return Loss()


MakeWatched = Callable[..., Listener]


@pytest.fixture
def watched(make_listener: MakeListener, between: Proxy, loss: Loss, server: Server) -> MakeWatched:
    """Make a listener that leads through the proxy, listens to ``x`` and has the heartbeat above."""

    def make(dsn: str | None = None, **options: object) -> Listener:
        listener = make_listener(
            dsn or server.dsn(host=between.host, port=between.port),
            **{"heartbeat_interval": INTERVAL, "heartbeat_timeout": TIMEOUT, "event_callback": loss}
            | options,
        )
        listener.listen("x", timeout=20)
        return listener

    return make


@contextmanager
def steady(server: Server, *, rows: int = 1) -> Iterator[None]:
    """Send notifications all the time, *rows* in a transaction."""

    def send() -> None:
        while True:
            server.query(f"SELECT count(pg_notify('x', i::text)) FROM generate_series(1, {rows}) i")
            # Proxy, listener and consumer share one processor, and must keep up with this.
            gevent.sleep(0.01)

    sending = gevent.spawn(send)
    try:
        yield
    finally:
        sending.kill()
        # Its last query still runs in the threadpool. This one comes after it.
        server.query("SELECT 1")


def take(listener: Listener, pause: float = 0.0) -> gevent.Greenlet[[], None]:
    """Consume in the background, *pause* seconds for each notification."""

    def consume() -> None:
        for _ in listener:
            if pause:
                gevent.sleep(pause)

    consuming: gevent.Greenlet[[], None] = gevent.spawn(consume)
    return consuming


@pytest.mark.parametrize(("treatment", "direction"), BLACK_HOLES, ids=HOLE_NAMES)
def test_an_idle_link_is_given_up_interval_and_timeout_after_the_last_thing_heard(
    watched: MakeWatched, between: Proxy, loss: Loss, treatment: str, direction: Direction
) -> None:
    listener = watched()
    asked = time.monotonic()
    listener.ping(timeout=20)
    getattr(between, treatment)(direction)
    loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + INTERVAL + TIMEOUT)
    assert "heartbeat" in str(loss.error)
    between.release()
    with gevent.Timeout(20):
        # What the network had kept may come first.
        while listener.get() is not None:
            pass
    fence(listener, "x")


def test_an_idle_link_over_tls_is_given_up_just_so(
    watched: MakeWatched, proxy: MakeProxy, loss: Loss, tls_server: TlsServer
) -> None:
    between = proxy(tls_server)
    listener = watched(tls_server.dsn(host=between.host, port=between.port, sslmode="require"))
    asked = time.monotonic()
    listener.ping(timeout=20)
    between.drop()
    loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + INTERVAL + TIMEOUT)
    between.release()
    listener.wait_connected(20)


@pytest.mark.parametrize("direction", [BOTH, DOWN], ids=["BOTH", "DOWN"])
def test_a_link_that_dies_amid_steady_notifications_is_given_up_just_so(
    watched: MakeWatched, between: Proxy, loss: Loss, server: Server, direction: Direction
) -> None:
    listener = watched()
    consuming = take(listener)
    with steady(server):
        received = listener.stats().received
        between.wait_until(lambda: listener.stats().received > received + 10, 20)
        asked = time.monotonic()
        listener.ping(timeout=20)
        between.drop(direction)
        loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + INTERVAL + TIMEOUT)
    listener.close()
    consuming.join(20)


@pytest.mark.parametrize("rows", [1, 500], ids=["one by one", "in bursts"])
@pytest.mark.parametrize("overflow", ["block", "drop_oldest"])
def test_a_link_that_is_dead_towards_the_server_is_lost_though_notifications_come(
    watched: MakeWatched, between: Proxy, loss: Loss, server: Server, rows: int, overflow: str
) -> None:
    listener = watched(overflow=overflow)
    consuming = take(listener) if overflow == "block" else None
    with steady(server, rows=rows):
        asked = time.monotonic()
        listener.ping(timeout=20)
        between.drop(UP)
        # The next ping is due within an interval, and has the timeout that commands have.
        loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + 2 * INTERVAL + TIMEOUT)
        assert listener.stats().received > rows
    assert "heartbeat" in str(loss.error)
    listener.close()
    if consuming is not None:
        consuming.join(20)


def test_a_link_that_works_is_kept_however_much_comes(
    watched: MakeWatched, loss: Loss, server: Server
) -> None:
    listener = watched()
    consuming, pid = take(listener), listener.stats().server_pid
    with steady(server, rows=500):
        gevent.sleep(3 * (INTERVAL + TIMEOUT))
    listener.ping(timeout=20)
    assert loss.error is None
    assert listener.stats().server_pid == pid
    listener.close()
    consuming.join(20)


@pytest.mark.parametrize("options", [{"queue_size": 1}, {"queue_size": 10, "overflow": "drop_oldest"}])
def test_a_dead_link_is_lost_though_the_queue_is_full_without_a_consumer(
    watched: MakeWatched, between: Proxy, loss: Loss, server: Server, options: dict[str, object]
) -> None:
    listener = watched(**options)
    server.query("SELECT count(pg_notify('x', i::text)) FROM generate_series(1, 1000) i")
    between.wait_until(lambda: listener.stats().received > 0, 20)
    asked = time.monotonic()
    listener.ping(timeout=20)
    between.stall()
    loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + INTERVAL + TIMEOUT)
    assert listener.stats().queue_depth > 0


def test_a_dead_link_is_given_up_though_what_it_had_brought_lasts_for_long(
    watched: MakeWatched, between: Proxy, loss: Loss, server: Server
) -> None:
    listener = watched(queue_size=1)
    consuming = take(listener, pause=1e-3)
    server.query("SELECT count(pg_notify('x', i::text)) FROM generate_series(1, 20000) i")
    listener.ping(timeout=20)
    # All bytes have crossed the network by now, and reading them proves nothing.
    between.stall()
    loss.between(0.0, time.monotonic() + 2 * INTERVAL + TIMEOUT)
    assert listener.stats().queue_depth > 1000
    consuming.kill()


def test_a_command_in_flight_on_a_dead_link_has_interval_and_timeout_for_its_answer(
    watched: MakeWatched, between: Proxy, loss: Loss
) -> None:
    listener = watched()
    listener.ping(timeout=20)
    between.drop()
    asked = time.monotonic()
    notifying = gevent.spawn(listener.notify, "x", "never sent")
    listening = gevent.spawn(listener.listen, "y", 20)
    loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + INTERVAL + TIMEOUT)
    with pytest.raises(pglisten.ConnectionLost):
        notifying.get(timeout=20)
    between.release()
    listening.get(timeout=20)


def test_a_frozen_server_is_given_up_and_listened_to_again_when_it_thaws(
    make_listener: MakeListener, loss: Loss, private_server: PrivateServer
) -> None:
    listener = make_listener(
        private_server.dsn(),
        heartbeat_interval=INTERVAL,
        heartbeat_timeout=TIMEOUT,
        connect_timeout=0.5,
        min_reconnect_interval=0.1,
        max_reconnect_interval=0.1,
        event_callback=loss,
    )
    listener.listen("x", timeout=20)
    asked = time.monotonic()
    listener.ping(timeout=20)
    private_server.freeze()
    loss.between(asked + INTERVAL + TIMEOUT, time.monotonic() + INTERVAL + TIMEOUT)
    # The kernel still takes connections, and no process answers.
    with pytest.raises(pglisten.OperationTimeout) as caught:
        listener.wait_connected(2)
    assert isinstance(caught.value.__cause__, pglisten.ConnectionFailed)
    private_server.thaw()
    with gevent.Timeout(20):
        assert listener.get() is None
    fence(listener, "x")
