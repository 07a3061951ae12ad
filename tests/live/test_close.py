"""close() is prompt in every state, and what it leaves behind is nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerEvent
from pglisten.testing import Proxy
from pglisten_listeners import Events, MakeListener
from pglisten_servers import Server

MakeProxy = Callable[..., Proxy]


def _in_time(listener: Listener) -> None:
    # A second is what close() promises; a machine with other things to do gets some more.
    started = time.monotonic()
    listener.close()
    assert time.monotonic() - started < 5
    assert listener.closed


def test_close_is_prompt_while_dialling_a_silent_server(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    silent = proxy(server)
    silent.drop()
    listener = make_listener(server.dsn(host=silent.host, port=silent.port), connect_timeout=60.0)
    waiting = gevent.spawn(listener.listen, "x")
    silent.wait_until(lambda: silent.connections == 1)
    _in_time(listener)
    with pytest.raises(pglisten.ListenerClosed):
        waiting.get(timeout=20)


def test_close_is_prompt_while_backing_off_for_a_minute(make_listener: MakeListener) -> None:
    events = Events()
    listener = make_listener(
        "host=127.0.0.1 port=1 user=nobody", min_reconnect_interval=60.0, event_callback=events
    )
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    assert repr(listener).startswith("<Listener backing off")
    _in_time(listener)
    assert events.names == ["CONNECTION_ATTEMPT_FAILED"]


def test_close_is_prompt_with_a_full_queue(make_listener: MakeListener, server: Server) -> None:
    listener = make_listener(queue_size=1)
    listener.listen("full", timeout=20)
    server.query("select pg_notify('full', i::text) from generate_series(0, 2999) i")
    listener.get(timeout=20)
    _in_time(listener)


def test_close_is_prompt_with_a_command_in_flight_on_a_frozen_link(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    listener.wait_connected(20)
    between.stall()
    callers = [gevent.spawn(listener.listen, "x"), gevent.spawn(listener.ping), gevent.spawn(listener.get)]
    gevent.idle()
    _in_time(listener)
    gevent.joinall(callers, timeout=20)
    assert all(isinstance(caller.exception, pglisten.ListenerClosed) for caller in callers)


def test_close_from_the_callback_returns_and_its_event_is_the_last(make_listener: MakeListener) -> None:
    events, closed = Events(), Event()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        if event is ListenerEvent.CONNECTED:
            listener.close()
            closed.set()

    listener = make_listener(event_callback=callback)
    assert closed.wait(20)
    events.wait_for("CONNECTED", "DISCONNECTED")
    assert isinstance(events[-1][1], pglisten.ListenerClosed)


def test_close_ends_a_callback_that_does_not_return_and_its_event_is_the_last(
    make_listener: MakeListener,
) -> None:
    events, forever = Events(), Event()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        events(event, error)
        forever.wait()

    listener = make_listener(event_callback=callback)
    events.wait_for("CONNECTED")
    _in_time(listener)
    assert events.names == ["CONNECTED", "DISCONNECTED"]


def test_a_closer_that_is_killed_has_closed_all_the_same(make_listener: MakeListener, server: Server) -> None:
    listener = make_listener()
    listener.wait_connected(20)
    closer = gevent.spawn(listener.close)
    gevent.idle()
    closer.kill()
    assert listener.closed
    listener.close()


def test_two_hundred_listeners_opened_and_closed_leave_nothing(
    make_listener: MakeListener, server: Server
) -> None:
    # The leak check of every live test compares greenlets, descriptors and server sessions.
    for number in range(200):
        listener = make_listener()
        if number % 2:
            listener.listen("x", timeout=20)
        listener.close()
