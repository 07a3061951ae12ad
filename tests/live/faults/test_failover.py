"""A primary dies, and its standby takes over: the listener connects to the server that accepts LISTEN."""

from __future__ import annotations

import gevent
import pytest

from pglisten import ConnectionFailed, ListenerClosed
from support.fixtures.listeners import Events, MakeListener
from support.fixtures.standby import StandbyPair

pytestmark = pytest.mark.slow  # Two servers for each test: on one Python.


def test_a_standby_that_refuses_listen_is_passed_over_within_one_attempt(
    make_listener: MakeListener, standby_pair: StandbyPair
) -> None:
    events = Events()
    primary, standby = standby_pair.servers
    hosts, ports = "127.0.0.1,127.0.0.1", f"{standby.port},{primary.port}"
    # An hour between attempts: a second one would be too late.
    listener = make_listener(
        standby_pair.dsn(host=hosts, port=ports, application_name="passing"),
        min_reconnect_interval=3600.0,
        max_reconnect_interval=3600.0,
        event_callback=events,
    )
    listener.listen("orders", timeout=20)
    events.wait_for("CONNECTED")
    assert (primary.sessions("passing"), standby.sessions("passing")) == (1, 0)


def test_where_all_are_standbys_the_attempt_fails_and_says_what_to_do(
    make_listener: MakeListener, standby_pair: StandbyPair
) -> None:
    events = Events()
    listener = make_listener(
        standby_pair.standby.dsn(),
        event_callback=events,
        min_reconnect_interval=3600.0,
        max_reconnect_interval=3600.0,
    )
    waiting = gevent.spawn(listener.listen, "orders")
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    (_, error), *_ = events
    assert isinstance(error, ConnectionFailed)
    assert error.sqlstate == "25006"
    assert "a standby cannot LISTEN" in str(error)
    listener.close()
    with pytest.raises(ListenerClosed):
        waiting.get()


@pytest.mark.parametrize("wanted", ["any", "read-write", "primary", "prefer-standby"])
def test_after_a_promotion_the_listener_is_on_the_new_primary(
    make_listener: MakeListener, standby_pair: StandbyPair, wanted: str
) -> None:
    events = Events()
    listener = make_listener(
        standby_pair.dsn(target_session_attrs=wanted, application_name="failover"),
        event_callback=events,
        max_reconnect_interval=0.05,
    )
    listener.listen("orders", timeout=20)
    standby_pair.primary.notify("orders", "before")
    assert listener.get(timeout=20).payload == "before"
    standby_pair.wait_caught_up()
    standby_pair.primary.kill()
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    standby_pair.promote()
    assert listener.get(timeout=20) is None
    standby_pair.primary.notify("orders", "after")
    assert listener.get(timeout=20).payload == "after"
    assert standby_pair.primary.sessions("failover") == 1


def test_a_standby_taken_without_channels_is_left_with_the_first_one(
    make_listener: MakeListener, standby_pair: StandbyPair
) -> None:
    standby, primary = standby_pair.standby, standby_pair.primary
    dsn = standby_pair.dsn(port=f"{standby.port},{primary.port}", application_name="late")
    listener = make_listener(dsn)
    listener.wait_connected(20)
    assert standby.sessions("late") == 1
    listener.listen("orders", timeout=20)
    assert (primary.sessions("late"), standby.sessions("late")) == (1, 0)
