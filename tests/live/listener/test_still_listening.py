"""The heartbeat asks whether the session still listens, and a listener that does not is repaired."""

from __future__ import annotations

import itertools
import random

import gevent
import pytest

from pglisten import Listener, ListenerEvent
from support.fixtures.listeners import Events, MakeListener, fence
from support.fixtures.standby import StandbyPair
from support.servers.server import Server
from support.timeouts import TIMEOUT


def with_heartbeats(make_listener: MakeListener, dsn: str | None = None) -> tuple[Listener, Events]:
    events = Events()
    listener = make_listener(dsn, heartbeat_interval=0.05, heartbeat_timeout=5.0, event_callback=events)
    listener.wait_connected(TIMEOUT)
    return listener, events


def wait_for_heartbeats(listener: Listener, count: int) -> None:
    seen: set[float | None] = set()
    with gevent.Timeout(TIMEOUT):
        while len(seen) <= count:
            seen.add(listener.stats().last_ping)
            gevent.sleep(0.01)


def run_in_its_session(listener: Listener, sql: str) -> None:
    """Do what a wrong ``execute()``, or a pooler, does."""
    connection = listener._supervisor.connection
    assert connection is not None
    connection.execute(sql, TIMEOUT, "test")


@pytest.mark.parametrize("sql", ["UNLISTEN *", "DISCARD ALL", 'UNLISTEN "b"'])
def test_lost_channels_are_found_and_the_stream_has_a_gap(
    make_listener: MakeListener, server: Server, sql: str
) -> None:
    listener, events = with_heartbeats(make_listener)
    for channel in ("a", "b"):
        listener.listen(channel, timeout=TIMEOUT)
    run_in_its_session(listener, sql)
    assert listener.get(timeout=TIMEOUT) is None
    event, error = events[1]
    assert event is ListenerEvent.DISCONNECTED
    kept = 1 if "b" in sql else 0
    assert f"heartbeat failed: the server listens to {kept} of 2 acknowledged channels" in str(error)
    assert "leave such SQL to other sessions" in str(error)
    for channel in ("a", "b"):
        server.notify(channel, "after")
        assert listener.get(timeout=TIMEOUT).channel == channel
    assert events.names == ["CONNECTED", "DISCONNECTED", "RECONNECTED"]


def test_a_session_that_sends_all_the_time_is_asked_too(make_listener: MakeListener) -> None:
    listener, events = with_heartbeats(make_listener)
    listener.listen("x", timeout=TIMEOUT)

    def send() -> None:
        for number in itertools.count():
            listener.notify("other", str(number), timeout=TIMEOUT)

    # There is always a command that waits.
    senders = [gevent.spawn(send) for _ in range(4)]
    run_in_its_session(listener, "UNLISTEN *")
    events.wait_for("CONNECTED", "DISCONNECTED")
    gevent.killall(senders)


def test_channels_that_change_during_heartbeats_are_no_loss(make_listener: MakeListener) -> None:
    events = Events()
    listener = make_listener(heartbeat_interval=0.001, heartbeat_timeout=5.0, event_callback=events)
    listener.listen("kept", timeout=TIMEOUT)

    def change(number: int) -> None:
        drawn = random.Random(number)
        for turn in range(30):
            channel = f"{number} {turn}"
            listener.listen(channel, timeout=TIMEOUT)
            gevent.sleep(drawn.choice((0, 0.001, 0.002)))
            if drawn.random() < 0.8:
                listener.unlisten(channel, timeout=TIMEOUT)

    gevent.joinall([gevent.spawn(change, number) for number in range(20)], raise_error=True)
    assert events.names == ["CONNECTED"]
    fence(listener, "kept")


@pytest.mark.slow
def test_on_a_standby_a_listener_without_channels_stays(
    make_listener: MakeListener, standby_pair: StandbyPair
) -> None:
    listener, events = with_heartbeats(make_listener, standby_pair.standby.dsn())
    wait_for_heartbeats(listener, 3)
    assert events.names == ["CONNECTED"]


def test_a_heartbeat_that_the_server_refuses_proves_that_it_lives(
    make_listener: MakeListener, server: Server
) -> None:
    listener, events = with_heartbeats(make_listener, server.dsn(options="-c statement_timeout=0"))
    listener.listen("x", timeout=TIMEOUT)
    # In a failed transaction the server refuses every query.
    connection = listener._supervisor.connection
    assert connection is not None
    connection.execute("BEGIN", TIMEOUT, "test")
    with pytest.raises(Exception, match="division by zero"):
        connection.execute("SELECT 1/0", TIMEOUT, "test")
    wait_for_heartbeats(listener, 3)
    connection.execute("ROLLBACK", TIMEOUT, "test")
    assert events.names == ["CONNECTED"]
    fence(listener, "x")
