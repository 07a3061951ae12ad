"""close(), called by a callback, a consumer, several greenlets, or a greenlet that is killed."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerConnection, ListenerEvent
from support.fixtures.listeners import Events, MakeConnection, MakeListener
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server
from support.timing import stopwatch

PROMISE = 1.0
"""Seconds that close() takes at the most."""


@pytest.mark.parametrize("when", list(ListenerEvent), ids=lambda event: event.name)
def test_from_the_callback_it_returns_and_its_event_is_the_last(
    make_listener: MakeListener, proxy: MakeProxy, server: Server, when: ListenerEvent
) -> None:
    events, closed, between = Events(), Event(), proxy(server)

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        if event is when and not closed.is_set():
            listener.close()
            closed.set()

    if when is ListenerEvent.CONNECTION_ATTEMPT_FAILED:
        between.refuse()
    listener = make_listener(server.dsn(host=between.host, port=between.port), event_callback=callback)
    if when in (ListenerEvent.DISCONNECTED, ListenerEvent.RECONNECTED):
        events.wait_for("CONNECTED")
        between.cut()
    assert closed.wait(20)
    listener.close()
    # One more for the end, where there was a connection to end.
    connected = when in (ListenerEvent.CONNECTED, ListenerEvent.RECONNECTED)
    ends = [event for event, error in events if isinstance(error, pglisten.ListenerClosed)]
    assert ends == [ListenerEvent.DISCONNECTED] * connected
    assert events.names[-1] == ("DISCONNECTED" if connected else when.name)


def test_from_a_consumer_what_is_queued_still_comes_and_then_its_iteration_ends(listener: Listener) -> None:
    listener.listen("x", timeout=20)
    for number in range(3):
        listener.notify("x", str(number), timeout=20)
    got = []
    for item in listener:
        got.append(item and item.payload)
        listener.close()
    assert got == ["0", "1", "2"]


def test_from_many_greenlets_each_returns_when_it_has_ended_and_there_is_one_event(
    make_listener: MakeListener,
) -> None:
    events, release, returned = Events(), Event(), list[object]()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        release.wait()

    def close() -> None:
        listener.close(timeout=None)
        returned.append(listener)

    listener = make_listener(event_callback=callback)
    events.wait_for("CONNECTED")
    closers = [gevent.spawn(close) for _ in range(20)]
    gevent.idle()
    # Its callback is still running.
    assert (listener.closed, returned) == (True, [])
    release.set()
    gevent.joinall(closers, timeout=20, raise_error=True)
    assert len(returned) == 20
    assert events.names == ["CONNECTED", "DISCONNECTED"]


@pytest.mark.parametrize("ending", ["kill", "timeout"])
def test_a_closer_that_is_killed_or_out_of_time_has_closed_all_the_same(
    make_listener: MakeListener, ending: str
) -> None:
    events, release = Events(), Event()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        release.wait()

    listener = make_listener(event_callback=callback)
    events.wait_for("CONNECTED")
    if ending == "kill":
        closer = gevent.spawn(listener.close, None)
        gevent.idle()
        closer.kill()
    else:
        with gevent.Timeout(0.01, False):  # type: ignore[arg-type]
            listener.close(timeout=None)
            pytest.fail("it did not wait for the callback")
    assert listener.closed
    with pytest.raises(pglisten.ListenerClosed):
        listener.get(timeout=20)
    release.set()
    events.wait_for("CONNECTED", "DISCONNECTED")


def test_without_time_a_callback_that_runs_is_ended_at_once(make_listener: MakeListener) -> None:
    events, ended = Events(), Event()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        try:
            Event().wait()
        finally:
            ended.set()

    listener = make_listener(event_callback=callback)
    events.wait_for("CONNECTED")
    with stopwatch() as took:
        listener.close(timeout=0)
    assert ended.is_set()
    assert took.own < 0.3
    # The last call is begun, and ended as well.
    assert events.names == ["CONNECTED", "DISCONNECTED"]


def test_a_callback_that_is_done_in_time_is_not_interrupted(make_listener: MakeListener) -> None:
    events, finished = Events(), []

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        gevent.sleep(0.05)
        finished.append(event.name)

    listener = make_listener(event_callback=callback)
    events.wait_for("CONNECTED")
    listener.close(timeout=20)
    assert finished == ["CONNECTED", "DISCONNECTED"]


def test_with_closes_whatever_is_raised_in_it(make_listener: MakeListener) -> None:
    listener = make_listener()
    listener.wait_connected(20)
    with pytest.raises(KeyError), listener:
        raise KeyError
    assert listener.closed


def test_two_hundred_listeners_opened_and_closed_leave_nothing(
    make_listener: MakeListener, server: Server
) -> None:
    # The leak check of every live test compares greenlets, descriptors and server sessions.
    for number in range(200):
        listener = make_listener()
        if number % 2:
            listener.listen("x", timeout=20)
        listener.close()


def _outcome(call: Callable[[], object]) -> object:
    # Raised in a greenlet, an error would be printed as well.
    try:
        return call()
    except pglisten.Error as error:
        return error


def _closes_in_time(connection: ListenerConnection, *calls: Callable[[], object]) -> None:
    """Close a listener while these calls wait."""
    waiting = [gevent.spawn(_outcome, call) for call in calls]
    gevent.idle()
    with stopwatch() as took:
        connection.close()
    assert took.own < PROMISE, took
    for call in waiting:
        outcome = call.get(timeout=20)
        assert isinstance(outcome, pglisten.ListenerClosed) or outcome == []
    assert isinstance(connection.error, pglisten.ListenerClosed)
    connection.close()


def test_a_single_connection_closes_in_time_idle(make_connection: MakeConnection) -> None:
    connection = make_connection()
    _closes_in_time(connection, connection.get, lambda: [*connection])


def test_a_single_connection_closes_in_time_while_a_query_runs(
    make_connection: MakeConnection, server: Server
) -> None:
    connection = make_connection()
    pid = connection.server_pid
    _closes_in_time(connection, lambda: connection.execute("select pg_sleep(20)"), connection.ping)
    # The server would go on with it until the end.
    server.terminate(pid)


def test_a_single_connection_closes_in_time_with_its_queue_full(
    make_connection: MakeConnection, server: Server
) -> None:
    connection = make_connection(queue_size=1)
    connection.listen("full", timeout=20)
    server.query("select count(pg_notify('full', i || repeat('x', 500))) from generate_series(1, 3000) i")
    connection.get(timeout=20)
    _closes_in_time(connection)


def test_a_single_connection_closes_in_time_in_the_middle_of_sending(
    make_connection: MakeConnection, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    connection = make_connection(server.dsn(host=between.host, port=between.port))
    between.stall()
    # More than all the buffers on the way hold.
    query = f"select length('{'x' * 30_000_000}')"
    _closes_in_time(connection, lambda: connection.execute(query), connection.ping, connection.get)
