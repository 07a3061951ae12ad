"""Full queues, killed callers, silent networks: what must go on while something stalls."""

from __future__ import annotations

import gevent
import pytest

import pglisten
from pglisten import Listener
from support.fixtures.listeners import Events, MakeListener, fence
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server


def _fill(listener: Listener, server: Server, count: int = 3000) -> None:
    """Send *count* notifications, more than the queue holds."""
    server.query(f"select pg_notify('full', i::text) from generate_series(0, {count - 1}) i")


def _numbers(listener: Listener, count: int) -> list[int]:
    items = [listener.get(timeout=20) for _ in range(count)]
    return [int(item.payload) for item in items if item is not None]


@pytest.mark.parametrize("queue_size", [1, 32])
def test_a_consumer_whose_own_queue_is_full_gets_its_answers(
    make_listener: MakeListener, server: Server, queue_size: int
) -> None:
    listener = make_listener(queue_size=queue_size)
    listener.listen("full", timeout=20)
    _fill(listener, server)
    listener.get(timeout=20)
    for number in range(5):
        listener.ping(timeout=20)
        listener.listen(f"c{number}", timeout=20)
        listener.unlisten(f"c{number}", timeout=20)
        listener.notify("unheard", timeout=20)
    assert _numbers(listener, 2999) == list(range(1, 3000))
    fence(listener, "full")


def test_a_full_queue_stops_the_reading(make_listener: MakeListener, server: Server) -> None:
    listener = make_listener(queue_size=10)
    listener.listen("full", timeout=20)
    for start in range(0, 100_000, 10_000):
        numbers = f"generate_series({start}, {start + 9999}) i"
        server.query(f"select count(pg_notify('full', i || repeat('x', 100))) from {numbers}")
    # All were sent; the queue holds one read's notifications, however often the hub turns.
    listener.get(timeout=20)
    depth = -1
    while depth != listener.stats().queue_depth:
        depth = listener.stats().queue_depth
        gevent.idle()
    assert depth < 10_000
    for number in range(1, 100_000):
        item = listener.get(timeout=20)
        assert item is not None
        assert item.payload.rstrip("x") == str(number)


def test_a_full_queue_that_drops_the_oldest_says_so_in_their_place(
    make_listener: MakeListener, server: Server
) -> None:
    listener = make_listener(queue_size=10, overflow="drop_oldest")
    listener.listen("full", timeout=20)
    _fill(listener, server, 1000)
    server.notify("full", "1000")
    while listener.stats().received < 1001:
        listener.ping(timeout=20)
    stats = listener.stats()
    assert (stats.received, stats.dropped, stats.queue_depth) == (1001, 991, 11)
    assert listener.get(timeout=20) is None
    assert _numbers(listener, 10) == list(range(991, 1001))


def test_greenlets_killed_or_out_of_time_inside_listen_leave_every_later_reply_right(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    listener.wait_connected(20)
    pid = listener.stats().server_pid
    between.stall()
    callers = [gevent.spawn(listener.listen, f"c{n}", 0.1 if n % 2 else None) for n in range(50)]
    gevent.joinall(callers[1::2], timeout=20)
    gevent.killall(callers)
    assert listener.channels == frozenset()
    between.release()
    listener.listen("after", timeout=20)
    with pytest.raises(pglisten.ChannelAlreadyOpen):
        listener.listen("after")
    for number in range(50):
        server.notify(f"c{number}", "no caller waits for this")
    fence(listener, "after")
    assert server.query("select count(*) from pg_stat_activity where pid = " + str(pid)) == [(1,)]
    assert listener.stats().server_pid == pid


def test_killed_callers_of_every_kind_leave_the_connection_up(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    listener.listen("x", timeout=20)
    pid = listener.stats().server_pid
    between.stall()
    callers = [
        gevent.spawn(call)
        for call in (
            listener.ping,
            lambda: listener.notify("x", "sent or not"),
            lambda: listener.unlisten("x"),
            lambda: listener.listen("y"),
            listener.get,
        )
    ]
    gevent.idle()
    gevent.killall(callers)
    between.release()
    listener.listen("z", timeout=20)
    listener.ping(timeout=20)
    assert listener.channels == {"z"}
    assert listener.stats().server_pid == pid


def test_the_heartbeat_finds_a_link_that_is_frozen(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between, events = proxy(server), Events()
    listener = make_listener(
        server.dsn(host=between.host, port=between.port),
        heartbeat_interval=0.2,
        heartbeat_timeout=0.5,
        event_callback=events,
    )
    listener.listen("x", timeout=20)
    between.stall()
    events.wait_for("CONNECTED", "DISCONNECTED")
    assert isinstance(events[-1][1], pglisten.ConnectionLost)
    assert "heartbeat" in str(events[-1][1])
    between.release()
    with gevent.Timeout(20):
        assert listener.get() is None
    fence(listener, "x")


def test_the_heartbeat_finds_a_frozen_link_while_the_queue_is_full(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between, events = proxy(server), Events()
    listener = make_listener(
        server.dsn(host=between.host, port=between.port),
        queue_size=1,
        heartbeat_interval=0.2,
        heartbeat_timeout=0.5,
        event_callback=events,
    )
    listener.listen("full", timeout=20)
    _fill(listener, server, 10)
    listener.get(timeout=20)
    between.stall()
    events.wait_for("CONNECTED", "DISCONNECTED")


def test_a_command_that_is_never_answered_is_a_loss_too(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between, events = proxy(server), Events()
    listener = make_listener(
        server.dsn(host=between.host, port=between.port),
        heartbeat_interval=0.1,
        heartbeat_timeout=0.5,
        event_callback=events,
    )
    listener.wait_connected(20)
    between.stall()
    caller = gevent.spawn(listener.listen, "x")
    events.wait_for("CONNECTED", "DISCONNECTED")
    between.release()
    caller.get(timeout=20)
    assert events.names[-1] == "RECONNECTED"


def test_a_ping_without_an_answer_in_time_is_a_loss(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between, events = proxy(server), Events()
    listener = make_listener(server.dsn(host=between.host, port=between.port), event_callback=events)
    listener.wait_connected(20)
    between.stall()
    with pytest.raises(pglisten.OperationTimeout):
        listener.ping(timeout=0.2)
    events.wait_for("CONNECTED", "DISCONNECTED")
    between.release()
    listener.wait_connected(20)
    listener.ping(timeout=20)


def test_a_thousand_channels_are_listened_to_again_in_three_round_trips(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    callers = [gevent.spawn(listener.listen, f"c{n}", 20) for n in range(1000)]
    gevent.joinall(callers, raise_error=True)
    listener.ping(timeout=20)
    before = between.queries
    server.terminate(listener.stats().server_pid or 0)
    assert listener.get(timeout=20) is None
    listener.wait_connected(20)
    assert between.queries - before <= 3
    for channel in ("c0", "c999"):
        fence(listener, channel)


def test_one_channel_that_the_server_refuses_keeps_no_other_from_coming_back(
    make_listener: MakeListener, server: Server
) -> None:
    server.query("drop database if exists latin")
    server.query("create database latin encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0")
    listener = make_listener(server.dsn(dbname="latin"))
    callers = [gevent.spawn(listener.listen, f"c{n}", 20) for n in range(40)]
    refused = gevent.spawn(listener.listen, "ключ", 20)
    gevent.joinall([*callers, refused])
    assert [caller.exception for caller in callers] == [None] * 40
    assert isinstance(refused.exception, pglisten.InvalidChannelName)
    assert listener.channels == {f"c{n}" for n in range(40)}
    fence(listener, "c7")
    listener.close()
    server.query("drop database latin with (force)")


def test_from_another_thread_a_clear_error(listener: Listener) -> None:
    pool = gevent.get_hub().threadpool
    for call in (listener.ping, listener.get, listener.close, lambda: listener.listen("x")):
        with pytest.raises(pglisten.Error, match="another OS thread"):
            pool.apply(call)
    listener.ping(timeout=20)
