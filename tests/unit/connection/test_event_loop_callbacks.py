"""In the event loop a call that would have to wait raises at once; over a server in memory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult, Event

import pglisten
import pglisten._socketio.outbox
from pglisten import Broadcaster, Listener, ListenerConnection, OperationTimeout
from pglisten._may_wait import ENTRANCES
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT


@pytest.fixture
def listener(server: FakeServer) -> Iterator[Listener]:
    with Listener("", backend=FakeBackend(server)) as made:
        made.listen("a")
        yield made


@pytest.fixture
def connection(server: FakeServer) -> Iterator[ListenerConnection]:
    with ListenerConnection("", backend=FakeBackend(server)) as made:
        made.listen("a")
        yield made


@pytest.fixture
def broadcaster(server: FakeServer) -> Iterator[Broadcaster]:
    with Broadcaster("", backend=FakeBackend(server)) as made:
        made.wait_connected()
        yield made


def in_the_event_loop(call: Callable[[], object]) -> object:
    """Return what *call* returns or raises in a callback of the event loop."""
    outcome: AsyncResult[object] = AsyncResult()

    def run() -> None:
        try:
            outcome.set(call())
        except (pglisten.Error, AssertionError) as error:
            outcome.set(error)

    gevent.get_hub().loop.run_callback(run)
    return outcome.get(timeout=TIMEOUT)


WAITING: dict[str, Callable[[Any], object]] = {
    "get": lambda made: made.get(),
    "get in time": lambda made: made.get(timeout=1),
    "iteration": lambda made: next(iter(made)),
    "listen": lambda made: made.listen("b"),
    "unlisten": lambda made: made.unlisten("a"),
    "unlisten_all": lambda made: made.unlisten_all(),
    "notify": lambda made: made.notify("a"),
    "ping": lambda made: made.ping(timeout=0),
    "wait_connected": lambda made: made.wait_connected(),
    "subscribe": lambda made: made.subscribe("b"),
    "execute": lambda made: made.execute("SELECT 1"),
}


@pytest.mark.parametrize(
    ("of", "calls"),
    [
        ("listener", set(WAITING) - {"subscribe", "execute"}),
        ("connection", set(WAITING) - {"subscribe", "wait_connected"}),
        ("broadcaster", {"subscribe", "notify", "ping", "wait_connected"}),
    ],
)
def test_a_call_that_waits_is_refused_and_changes_nothing(
    request: pytest.FixtureRequest, server: FakeServer, of: str, calls: set[str]
) -> None:
    made = request.getfixturevalue(of)
    channels, queries = made.channels, list(server.queries)
    for call in calls:
        error = in_the_event_loop(lambda call=call: WAITING[call](made))  # type: ignore[misc]
        assert isinstance(error, pglisten.Error), (call, error)
        assert "in the event loop" in str(error)
    gevent.idle()
    assert (made.channels, list(server.queries)) == (channels, queries)
    made.ping(TIMEOUT)


def test_a_subscription_can_be_taken_from_and_ended_and_cannot_wait(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    subscription = broadcaster.subscribe("a", "b")
    for call in (subscription.get, lambda: subscription.listen("c")):
        assert "in the event loop" in str(in_the_event_loop(call))
    in_the_event_loop(lambda: subscription.unlisten("b"))
    assert subscription.channels == {"a"}
    in_the_event_loop(subscription.close)
    assert subscription.closed


def test_a_connection_cannot_be_made_there_and_a_listener_can(server: FakeServer) -> None:
    error = in_the_event_loop(lambda: ListenerConnection("", backend=FakeBackend(server)))
    assert "in the event loop" in str(error)
    made = in_the_event_loop(lambda: Listener("", backend=FakeBackend(server)))
    assert isinstance(made, Listener)
    made.wait_connected(TIMEOUT)
    made.close()


def test_what_is_queued_can_be_taken_there(server: FakeServer, listener: Listener) -> None:
    listener.notify("a", "queued")
    for timeout in (0, None):
        listener.notify("a", "queued")
        item = in_the_event_loop(lambda timeout=timeout: listener.get(timeout))  # type: ignore[misc]
        assert item is not None
    in_the_event_loop(listener.get)
    # A look at the queue does not wait.
    assert isinstance(in_the_event_loop(lambda: listener.get(timeout=0)), OperationTimeout)


@pytest.mark.parametrize("of", ["listener", "connection", "broadcaster"])
@pytest.mark.parametrize("where", ["a callback", "a timer", "a link"])
def test_close_returns_there_and_all_ends(request: pytest.FixtureRequest, of: str, where: str) -> None:
    made, server = request.getfixturevalue(of), request.getfixturevalue("server")
    hub, returned = gevent.get_hub(), Event()
    waiting = gevent.spawn(list, made.subscribe("x") if of == "broadcaster" else made)

    def close(*_: object) -> None:
        assert gevent.getcurrent() is hub
        made.close()
        made.close()
        returned.set()

    if where == "a callback":
        hub.loop.run_callback(close)
    elif where == "a timer":
        timer = hub.loop.timer(0.001)
        timer.start(close)
    else:
        gevent.spawn(int).rawlink(close)
    assert returned.wait(TIMEOUT)
    waiting.join(TIMEOUT)
    assert waiting.dead
    made.close()
    assert made.closed
    assert server.sessions() == frozenset()


def test_in_gevents_own_signal_handler_everything_may_be_called(listener: Listener) -> None:
    import os
    import signal

    done: AsyncResult[Any] = AsyncResult()

    def handle() -> None:
        round_trip = listener.ping(TIMEOUT)
        listener.close()
        assert listener.closed
        done.set(round_trip)

    handler = gevent.signal_handler(signal.SIGUSR1, handle)
    try:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert done.get(timeout=TIMEOUT)
    finally:
        handler.cancel()


def test_the_applications_own_functions_may_wait(server: FakeServer, broadcaster: Broadcaster) -> None:
    called: list[str] = []
    event_callback = lambda *_: called.append(f"event {broadcaster.ping(TIMEOUT) > 0}")  # noqa: E731
    with Listener("", backend=FakeBackend(server), event_callback=event_callback) as made:
        made.wait_connected()
    on_gap = lambda: called.append(f"gap {broadcaster.ping(TIMEOUT) > 0}")  # noqa: E731
    with broadcaster.subscribe("a", on_gap=on_gap) as subscription, pytest.raises(OperationTimeout):
        subscription.get(timeout=0.001)
    assert called[-1] == "gap True"
    assert "event True" in called


def test_the_entrances_exist() -> None:
    assert set(sys.modules) >= ENTRANCES
