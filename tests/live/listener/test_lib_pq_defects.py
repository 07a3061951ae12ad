"""Defects of lib/pq's listener that no other file tests: docs/lib-pq.md lists all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import gevent
import pytest

import pglisten
from pglisten import Listener
from pglisten.testing import DOWN, Proxy
from support.fixtures.listeners import Events, MakeListener, fence
from support.fixtures.servers import Server
from support.timing import hold_before, stopwatch

Through: TypeAlias = Callable[..., Listener]


@pytest.fixture
def through(make_listener: MakeListener, between: Proxy, server: Server) -> Through:
    """Return a function that makes a listener on the other side of the proxy."""
    return lambda **options: make_listener(server.dsn(host=between.host, port=between.port), **options)


def test_in_a_black_hole_every_call_ends_with_its_own_time_and_close_at_once(
    through: Through, between: Proxy
) -> None:
    listener = through(connect_timeout=None)
    listener.listen("x", timeout=20)
    between.drop()
    calls = [
        *(lambda: listener.listen("y", timeout=0.1), lambda: listener.unlisten("x", timeout=0.1)),
        *(lambda: listener.notify("x", timeout=0.1), lambda: listener.get(timeout=0.1)),
        # The last, since the connection counts as lost then.
        lambda: listener.ping(timeout=0.5),
    ]
    for caller in [gevent.spawn(pytest.raises, pglisten.OperationTimeout, call) for call in calls]:
        caller.get(timeout=20)
    # The black hole is still there, and swallows the next attempt.
    with pytest.raises(pglisten.OperationTimeout):
        listener.wait_connected(timeout=0.1)
    with pytest.raises(pglisten.OperationTimeout):
        listener.listen("y", timeout=0.1)
    with stopwatch() as took:
        listener.close()
    assert took.own < 1


def test_a_bad_name_is_refused_without_a_connection_too_and_spoils_no_later_one(
    through: Through, between: Proxy
) -> None:
    between.refuse()
    listener = through()
    for name in ("", "a\0b", "x" * 64, "é" * 32, "\udcff"):
        with pytest.raises(pglisten.InvalidChannelName):
            listener.listen(name)
    assert listener.channels == frozenset()
    waiting = gevent.spawn(listener.listen, "x", 20)
    between.accept()
    waiting.get(timeout=20)
    between.cut()
    assert listener.get(timeout=20) is None
    fence(listener, "x")


def test_after_a_connection_that_died_while_listening_again_listen_is_acknowledged(
    through: Through, between: Proxy
) -> None:
    events = Events()
    listener = through(event_callback=events)
    listener.listen("x", timeout=20)
    gevent.spawn(between.cut)
    hold_before(between, b"LISTEN")
    between.cut()
    between.release()
    listener.listen("y", timeout=20)
    assert listener.get(timeout=20) is None
    for channel in ("x", "y"):
        fence(listener, channel)
    assert events.names == ["CONNECTED", "DISCONNECTED", "CONNECTION_ATTEMPT_FAILED", "RECONNECTED"]


@pytest.mark.parametrize("maximum", [0.5, 0, -1, float("nan")])
def test_a_maximum_below_the_minimum_or_without_a_pause_is_refused(
    make_listener: MakeListener, maximum: float
) -> None:
    with pytest.raises(pglisten.ConfigurationError, match="max_reconnect_interval"):
        make_listener(min_reconnect_interval=1.0, max_reconnect_interval=maximum)


@pytest.mark.parametrize("connected", [True, False])
def test_a_listen_that_waits_hears_of_the_unlisten_that_ends_it(
    through: Through, between: Proxy, server: Server, connected: bool
) -> None:
    if not connected:
        between.refuse()
    listener = through()
    if connected:
        listener.wait_connected(20)
        between.hold(DOWN)
    waiting = gevent.spawn(pytest.raises, pglisten.ChannelNotOpen, lambda: listener.listen("x"))
    gevent.idle()
    leaving = gevent.spawn(listener.unlisten, "x", 20)
    waiting.get(timeout=20)
    assert listener.channels == frozenset()
    between.accept()
    between.release()
    leaving.get(timeout=20)
    listener.listen("y", timeout=20)
    server.notify("x", "no session listens")
    fence(listener, "y")


def test_a_thousand_channels_are_listened_to_again_in_two_round_trips(
    through: Through, between: Proxy
) -> None:
    listener = through()
    channels = [f"c{number}" for number in range(1000)]
    gevent.joinall([gevent.spawn(listener.listen, channel, 20) for channel in channels], raise_error=True)
    asked = between.queries
    between.cut()
    assert listener.get(timeout=20) is None
    # One for all channels, and one that asks the server whether it listens to them.
    assert between.queries - asked == 2
    assert listener.channels == set(channels)
    for channel in (channels[0], channels[-1]):
        fence(listener, channel)


def test_pings_around_a_loss_are_answered_or_say_why_not(make_listener: MakeListener, server: Server) -> None:
    listener = make_listener()

    def ping_until_lost() -> str | None:
        try:
            while True:
                listener.ping(timeout=20)
        except pglisten.ConnectionLost as error:
            return error.sqlstate
        except pglisten.NotConnected:
            return "between two of them"

    outcomes = set()
    for _ in range(20):
        listener.wait_connected(20)
        pid = listener.stats().server_pid
        assert pid is not None
        callers = [gevent.spawn(ping_until_lost) for _ in range(3)]
        gevent.sleep(0)  # They are in the middle of it.
        server.terminate(pid)
        outcomes |= {caller.get(timeout=20) for caller in callers}
    assert "57P01" in outcomes
    assert outcomes <= {"57P01", "between two of them"}


def test_a_gap_is_an_item_of_the_stream_and_its_end_is_none(
    make_listener: MakeListener, server: Server
) -> None:
    listener = make_listener()
    listener.listen("x", timeout=20)
    consuming = gevent.spawn(lambda: [item and item.payload for item in listener])
    for number in range(2):
        server.terminate(listener.stats().server_pid or 0)
        with gevent.Timeout(20):
            while listener.stats().reconnects == number or not listener.connected:
                gevent.idle()
        listener.notify("x", str(number), timeout=20)
    listener.close()
    assert consuming.get(timeout=20) == [None, "0", None, "1"]
    for _ in range(2):
        with pytest.raises(pglisten.ListenerClosed):
            listener.get(timeout=20)


def test_a_wrong_dsn_can_be_made_to_fail_at_start_up(make_listener: MakeListener, server: Server) -> None:
    for malformed in ("hots=db", "postgresql://db:port/app", "user='app"):
        with pytest.raises(pglisten.ConfigurationError):
            make_listener(malformed)
    events = Events()
    listener = make_listener(server.dsn(dbname="no such database"), event_callback=events)
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    with pytest.raises(pglisten.OperationTimeout) as caught:
        listener.wait_connected(timeout=0.01)
    assert isinstance(caught.value.__cause__, pglisten.ConnectionFailed)
    assert caught.value.__cause__.sqlstate == "3D000"
    with pytest.raises(pglisten.OperationTimeout):
        listener.listen("x", timeout=0.01)
    assert listener.channels == frozenset()
