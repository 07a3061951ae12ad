"""The supervisor over a server in memory: its schedule, its events, and what it does at unusual moments."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerEvent
from pglisten._connection.heartbeat import Heartbeat
from pglisten._connection.plan import BATCH
from pglisten._connection.target import Target
from pglisten._listener.settings import Settings, Timing
from pglisten._listener.states import State
from pglisten._listener.supervisor import Supervisor
from pglisten.errors import ConnectionFailed, ServerError
from pglisten.testing import FakeBackend, FakeServer


class Sleeps(list[float]):
    """Records the supervisor's delays instead of sleeping; a clock that only they advance."""

    def __init__(self, stop_after: int) -> None:
        super().__init__()
        self.now = 1000.0
        self.enough = Event()
        self._stop_after = stop_after

    def __call__(self, delay: float) -> None:
        self.append(delay)
        self.now += delay
        if len(self) >= self._stop_after:
            self.enough.set()
            Event().wait()
        gevent.idle()


def _supervisor(server: FakeServer, sleeps: Sleeps, events: list[str], **changes: object) -> Supervisor:
    options: dict[str, object] = {
        "target": Target("host=127.0.0.1", FakeBackend(server), 1.0),
        "min_reconnect_interval": 80.0,
        "max_reconnect_interval": 300.0,
        "jitter": 0.0,
        "event_callback": lambda event, error: events.append(event.name),
        "queue_size": 10,
        "drop_oldest": False,
        "heartbeat": Heartbeat(30.0, 10.0),
        **changes,
    }
    timing = Timing(now=lambda: sleeps.now, sleep=sleeps, random=lambda: 0.5)
    supervisor = Supervisor(Settings(**options), timing=timing)  # type: ignore[arg-type]
    supervisor.start()
    return supervisor


def test_the_schedule_of_failures_is_exact(server: FakeServer) -> None:
    server.refuse = ConnectionFailed("refused")
    sleeps, events = Sleeps(6), list[str]()
    supervisor = _supervisor(server, sleeps, events)
    assert sleeps.enough.wait(5)
    assert sleeps == [80, 160, 300, 300, 300, 300]
    assert supervisor.state is State.BACKING_OFF
    assert supervisor.failed_attempts == 6
    supervisor.close(1)
    assert events == ["CONNECTION_ATTEMPT_FAILED"] * 6


def test_a_loss_is_retried_when_the_minimum_has_passed_since_the_connection(server: FakeServer) -> None:
    sleeps, events = Sleeps(2), list[str]()
    supervisor = _supervisor(server, sleeps, events)
    supervisor.wait_connected(5)
    sleeps.now += 30
    server.cut()
    assert supervisor.queue.get(5) is None
    supervisor.wait_connected(5)
    sleeps.now += 500
    server.cut()
    assert sleeps.enough.wait(5)
    assert sleeps == [50, 0]
    supervisor.close(1)
    assert events == ["CONNECTED", "DISCONNECTED", "RECONNECTED", "DISCONNECTED"]


def test_a_connection_resets_the_schedule(server: FakeServer) -> None:
    server.refuse = ConnectionFailed("refused")
    sleeps, events = Sleeps(6), list[str]()
    supervisor = _supervisor(server, sleeps, events)

    while len(sleeps) < 3:
        gevent.idle()
    server.refuse = None
    supervisor.wait_connected(5)
    server.refuse = ConnectionFailed("refused")
    server.cut()
    assert sleeps.enough.wait(5)
    assert sleeps[-3:] == [80, 80, 160]
    supervisor.close(1)


@pytest.fixture
def listeners(server: FakeServer) -> Iterator[list[Listener]]:
    made: list[Listener] = []
    yield made
    for listener in made:
        listener.close()


def _listener(server: FakeServer, listeners: list[Listener], **options: object) -> Listener:
    options.setdefault("min_reconnect_interval", 0.001)
    made = Listener("host=127.0.0.1", backend=FakeBackend(server), **options)  # type: ignore[arg-type]
    listeners.append(made)
    return made


def test_a_standby_is_the_connections_trouble_and_listen_waits_for_a_primary(
    server: FakeServer, listeners: list[Listener]
) -> None:
    server.refuse_listen["x"] = ServerError("cannot execute LISTEN during recovery", sqlstate="25006")
    failed = Event()
    listener = _listener(
        server, listeners, event_callback=lambda event, error: failed.set() if error else None
    )
    waiting = gevent.spawn(listener.listen, "x", 5)
    assert failed.wait(5)
    server.refuse_listen.clear()
    waiting.get(timeout=5)
    listener.notify("x", "heard")
    with gevent.Timeout(5):
        while (item := listener.get()) is None:
            pass
    assert item.payload == "heard"


def test_a_channel_refused_at_the_reconnection_leaves_the_set_and_the_log_says_so(
    server: FakeServer, listeners: list[Listener], caplog: pytest.LogCaptureFixture
) -> None:
    listener = _listener(server, listeners)
    for channel in ("a", "b", "c"):
        listener.listen(channel, timeout=5)
    server.refuse_listen["b"] = ServerError("no", sqlstate="42501")
    with caplog.at_level(logging.ERROR, "pglisten"):
        server.cut()
        assert listener.get(timeout=5) is None
    assert listener.channels == {"a", "c"}
    assert "'b'" in caplog.text
    listener.notify("c", "still here")
    item = listener.get(timeout=5)
    assert item is not None
    assert item.channel == "c"


def test_many_channels_cost_few_round_trips(server: FakeServer, listeners: list[Listener]) -> None:
    listener = _listener(server, listeners)
    callers = [gevent.spawn(listener.listen, f"c{n}", 5) for n in range(BATCH)]
    gevent.joinall(callers, raise_error=True)
    before = len(server.queries)
    server.cut()
    assert listener.get(timeout=5) is None
    # One for all channels, and one that asks the server whether it listens to them.
    assert len(server.queries) - before == 2


def test_callers_that_come_together_share_a_round_trip(server: FakeServer, listeners: list[Listener]) -> None:
    listener = _listener(server, listeners)
    listener.wait_connected(5)
    before = len(server.queries)
    gevent.joinall([gevent.spawn(listener.listen, f"c{n}", 5) for n in range(100)], raise_error=True)
    assert len(server.queries) - before <= 2


def test_a_callback_that_raises_is_logged_and_changes_nothing(
    server: FakeServer, listeners: list[Listener], caplog: pytest.LogCaptureFixture
) -> None:
    def callback(event: ListenerEvent, error: Exception | None) -> None:
        raise ValueError("from the callback")

    listener = _listener(server, listeners, event_callback=callback)
    listener.listen("x", timeout=5)
    server.cut()
    assert listener.get(timeout=5) is None
    assert caplog.text.count("from the callback") >= 2


def test_a_backend_with_a_bug_is_a_failed_attempt_and_the_log_has_the_traceback(
    server: FakeServer, listeners: list[Listener], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeBackend):
        def connect(self, conninfo: object, timeout: object) -> pglisten.backend.Session:
            raise ZeroDivisionError("the bug")

    failed = Event()
    errors: list[Exception | None] = []

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        errors.append(error)
        failed.set()

    listener = Listener("", backend=Broken(server), event_callback=callback, min_reconnect_interval=60)
    listeners.append(listener)
    assert failed.wait(5)
    assert isinstance(errors[0], ConnectionFailed)
    assert isinstance(errors[0].__cause__, ZeroDivisionError)
    assert "the bug" in caplog.text


def test_killing_every_greenlet_there_is_closes_the_listener(
    server: FakeServer, listeners: list[Listener]
) -> None:
    listener = _listener(server, listeners)
    listener.wait_connected(5)
    waiting = gevent.spawn(listener.get, 5)
    gevent.idle()
    listener._supervisor._greenlet.kill()
    with pytest.raises(pglisten.ListenerClosed):
        waiting.get(timeout=5)
    assert listener.closed
    listener.close()
    assert server.sessions() == frozenset()


def test_a_link_killed_from_outside_is_a_loss_like_any_other(
    server: FakeServer, listeners: list[Listener]
) -> None:
    listener = _listener(server, listeners)
    listener.listen("x", timeout=5)
    link = listener._supervisor.connection
    assert link is not None
    link._greenlet.kill()
    assert listener.get(timeout=5) is None
    listener.ping(timeout=5)


def test_a_marker_that_waits_for_the_callback_is_not_overtaken_by_the_next_loss(
    server: FakeServer, listeners: list[Listener]
) -> None:
    go, events = Event(), list[str]()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events.append(event.name)
        if event is ListenerEvent.RECONNECTED and events.count("RECONNECTED") == 1:
            go.wait(5)

    listener = _listener(server, listeners, event_callback=callback)
    listener.listen("x", timeout=5)
    server.cut()
    with gevent.Timeout(5):
        while "RECONNECTED" not in events:
            gevent.idle()
    listener.notify("x", "held while the callback ran")
    server.cut()
    with gevent.Timeout(5):
        while listener.stats().reconnects < 2:
            gevent.idle()
    listener.notify("x", "after")
    assert listener.stats().queue_depth == 0
    go.set()
    items = [listener.get(timeout=5) for _ in range(4)]
    assert [item and item.payload for item in items] == [None, "held while the callback ran", None, "after"]
    assert events == ["CONNECTED", "DISCONNECTED", "RECONNECTED", "DISCONNECTED", "RECONNECTED"]


def test_an_abandoned_listen_brings_nothing_later(server: FakeServer, listeners: list[Listener]) -> None:
    listener = _listener(server, listeners)
    listener.wait_connected(5)
    server.freeze()
    with pytest.raises(pglisten.OperationTimeout):
        listener.listen("x", timeout=0.01)
    server.thaw()
    listener.listen("y", timeout=5)
    server.notify("x", "unexpected")
    server.notify("y", "expected")
    item = listener.get(timeout=5)
    assert item is not None
    assert item.payload == "expected"
