"""Calls, kills and timeouts at unusual moments, over a server in memory."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerConnection, ListenerEvent
from pglisten._completion import Completion
from pglisten.testing import FakeBackend, FakeServer


@pytest.fixture
def listener(server: FakeServer) -> Iterator[Listener]:
    with Listener("", backend=FakeBackend(server), min_reconnect_interval=0.001) as made:
        made.wait_connected(5)
        yield made


def test_waiting_for_a_connection_right_after_its_loss_waits_for_the_next(
    server: FakeServer, listener: Listener
) -> None:
    waited = []

    def call_and_wait() -> None:
        try:
            while True:
                listener.ping()
        except pglisten.ConnectionLost:
            listener.wait_connected(5)
            waited.append(listener.stats().reconnects)

    callers = [gevent.spawn(call_and_wait) for _ in range(3)]
    gevent.sleep(0)  # The hub is not idle while they ping.
    server.cut()
    with gevent.Timeout(5):
        gevent.joinall(callers, raise_error=True)
    assert waited == [1, 1, 1]


def test_channels_that_come_and_go_all_the_time_leave_every_caller_a_turn(
    server: FakeServer, listener: Listener
) -> None:
    listener.listen("wanted", timeout=5)
    done = Event()

    def churn(number: int) -> None:
        while not done.is_set():
            listener.listen(f"c{number}", timeout=5)
            listener.unlisten(f"c{number}", timeout=5)

    churners = [gevent.spawn(churn, number) for number in range(20)]
    gevent.sleep(0)  # The hub is never idle from now on.
    for number in range(20):
        listener.notify("wanted", str(number), timeout=5)
        item = listener.get(timeout=5)
        assert item is not None
        assert item.payload == str(number)
        listener.ping(timeout=5)
        listener.wait_connected(timeout=5)
    done.set()
    gevent.joinall(churners, timeout=5, raise_error=True)


@pytest.mark.parametrize("leaving", [gevent.Timeout(0), gevent.GreenletExit(), ValueError()], ids=repr)
def test_whatever_leaves_the_callback_the_stream_and_the_events_go_on(
    server: FakeServer, leaving: BaseException
) -> None:
    events: list[str] = []

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events.append(event.name)
        raise leaving

    with Listener(
        "", backend=FakeBackend(server), min_reconnect_interval=0.001, event_callback=callback
    ) as made:
        made.listen("x", timeout=5)
        server.cut()
        assert made.get(timeout=5) is None
        made.notify("x", "y", timeout=5)
        item = made.get(timeout=5)
        assert item is not None
        assert item.payload == "y"
    assert events == ["CONNECTED", "DISCONNECTED", "RECONNECTED", "DISCONNECTED"]


def test_a_callback_killed_from_outside_ends_one_call_and_no_more(server: FakeServer) -> None:
    events: list[str] = []
    running = Event()
    victims: list[gevent.Greenlet[..., object]] = []

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events.append(event.name)
        if event is ListenerEvent.RECONNECTED:
            victims.append(gevent.getcurrent())  # type: ignore[arg-type]
            running.set()
            Event().wait()

    with Listener(
        "", backend=FakeBackend(server), min_reconnect_interval=0.001, event_callback=callback
    ) as made:
        made.wait_connected(5)
        server.cut()
        assert running.wait(5)
        victims[0].kill()
        assert made.get(timeout=5) is None
    assert events == ["CONNECTED", "DISCONNECTED", "RECONNECTED", "DISCONNECTED"]


def test_an_outcome_that_comes_in_the_turn_in_which_time_runs_out_counts() -> None:
    class Late(Completion):
        def __init__(self) -> None:
            super().__init__()
            self._event = _ResolvesAsItTimesOut()

    Late().wait(0.001, "x")


class _ResolvesAsItTimesOut(Event):
    def wait(self, timeout: float | None = None) -> bool:  # type: ignore[override]
        self.set()
        return False


def test_a_ping_behind_a_command_that_is_not_answered_is_a_loss(
    server: FakeServer, listener: Listener
) -> None:
    server.freeze()
    caller = gevent.spawn(listener.listen, "x")
    gevent.idle()
    with pytest.raises(pglisten.OperationTimeout):
        listener.ping(timeout=0.05)
    server.thaw()
    caller.get(timeout=5)
    assert listener.stats().reconnects == 1


def test_an_unlisten_in_flight_when_a_single_connection_ends_hears_why(server: FakeServer) -> None:
    connection = ListenerConnection("", backend=FakeBackend(server))
    connection.listen("x", timeout=5)
    server.freeze()
    callers = [gevent.spawn(connection.unlisten, "x")]
    gevent.idle()
    connection.close()
    gevent.joinall(callers, timeout=5)
    assert isinstance(callers[0].exception, pglisten.ListenerClosed)


def test_an_unlisten_in_flight_when_a_listeners_connection_is_lost_is_done(
    server: FakeServer, listener: Listener
) -> None:
    listener.listen("x", timeout=5)
    server.freeze()
    caller = gevent.spawn(listener.unlisten, "x")
    gevent.idle()
    server.cut()
    server.thaw()
    caller.get(timeout=5)
    assert listener.channels == frozenset()


def test_what_an_abandoned_listen_brings_before_it_is_undone_is_dropped(
    server: FakeServer, listener: Listener
) -> None:
    server.freeze()
    with pytest.raises(pglisten.OperationTimeout):
        listener.listen("x", timeout=0.01)
    thaw = gevent.spawn(server.thaw)
    server.wait_listened("x", timeout=5)
    server.notify("x", "unexpected")
    thaw.get(timeout=5)
    listener.listen("y", timeout=5)
    listener.notify("y", "expected", timeout=5)
    item = listener.get(timeout=5)
    assert item is not None
    assert item.payload == "expected"


@pytest.mark.parametrize("how", ["killed", "timed out"])
def test_who_waits_for_all_channels_does_not_wait_for_one_whose_caller_is_gone(
    server: FakeServer, listener: Listener, how: str
) -> None:
    listener.wait_connected(timeout=5)
    server.freeze()
    caller = gevent.spawn(listener.listen, "x", timeout=None if how == "killed" else 0.01)
    gevent.idle()
    assert listener.channels == {"x"}
    waiting = gevent.spawn(listener.wait_connected, 5)
    gevent.idle()
    if how == "killed":
        caller.kill()
    caller.join()
    waiting.get(timeout=5)
    server.thaw()


def test_a_supervisor_killed_before_its_first_switch_leaves_no_caller_waiting(server: FakeServer) -> None:
    listener = Listener("", backend=FakeBackend(server))
    listener._supervisor._greenlet.kill()
    with pytest.raises(pglisten.ListenerClosed):
        listener.wait_connected(timeout=5)
    listener.close()


def test_a_link_killed_before_its_first_switch_closes_its_session(server: FakeServer) -> None:
    connection = ListenerConnection("", backend=FakeBackend(server))
    connection._connection._greenlet.kill()
    with pytest.raises(pglisten.ConnectionLost):
        connection.get(timeout=5)
    assert server.sessions() == frozenset()


def test_many_closers_one_of_them_killed_all_come_back(server: FakeServer, listener: Listener) -> None:
    closers = [gevent.spawn(listener.close) for _ in range(20)]
    gevent.idle()
    closers[0].kill()
    gevent.joinall(closers, timeout=5, raise_error=True)
    assert server.sessions() == frozenset()
