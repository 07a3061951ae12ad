"""A slow network or a blocked hub is no reason to end a living connection."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest
from gevent import monkey

import pglisten
from pglisten import Listener
from pglisten.testing import DOWN, UP
from support.fixtures.listeners import Events, MakeListener, fence
from support.fixtures.proxy import MakeProxy
from support.servers.server import Server

READY = b"Z\0\0\0\5I"
"""ReadyForQuery, outside a transaction: the last message of an answer."""


_block_the_hub: Callable[[float], None] = monkey.get_original("time", "sleep")
"""Let nothing else run for some seconds, as a request that computes does."""


def test_a_ping_that_never_had_its_turn_proves_nothing_while_others_are_answered(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    listener.wait_connected(20)
    pid = listener.stats().server_pid
    # An answer every 60 ms, and the last of these after 0.9 s.
    between.delay(0.03)
    callers = [gevent.spawn(listener.notify, "x", str(n)) for n in range(15)]
    gevent.sleep(0)
    with pytest.raises(pglisten.OperationTimeout):
        listener.ping(timeout=0.5)
    gevent.joinall(callers, raise_error=True)
    assert listener.ping(timeout=20)
    assert listener.stats().server_pid == pid


@pytest.mark.parametrize("timeout", [0.0, 0.2])
def test_a_ping_whose_answer_is_there_when_the_hub_comes_back_is_no_loss(
    listener: Listener, timeout: float
) -> None:
    pid = listener.stats().server_pid
    for _ in range(3):
        pinging = gevent.spawn(listener.ping, timeout)
        gevent.sleep(0)
        _block_the_hub(0.3)
        pinging.join()
        listener.ping(timeout=20)
    assert listener.stats().server_pid == pid


@pytest.mark.parametrize("kilobytes", [0, 300])
def test_a_heartbeat_answered_while_the_hub_was_blocked_is_no_loss(
    make_listener: MakeListener, proxy: MakeProxy, server: Server, kilobytes: int
) -> None:
    between, events = proxy(server), Events()
    listener = make_listener(
        server.dsn(host=between.host, port=between.port),
        queue_size=1,
        heartbeat_interval=0.3,
        heartbeat_timeout=1.0,
        event_callback=events,
    )
    listener.listen("full", timeout=20)
    between.hold()
    queries = between.queries
    server.query(
        f"select pg_notify('full', lpad(i::text, 1000, 'x')) from generate_series(0, {kilobytes + 1}) i"
    )
    # The heartbeat has been sent, and the server is not asked before all of this has come: the answer
    # stands behind it, and all of it comes while the hub is blocked.
    last = f"x{kilobytes + 1}\0".encode()
    between.wait_until(lambda: last in between.held(DOWN) and between.queries > queries)
    between.release(UP)
    between.wait_until(lambda: between.held(DOWN).endswith(READY))
    other = gevent.spawn(lambda: None)
    between.release(DOWN)
    assert not other.ready(), "the kernel did not take all of it at once"
    _block_the_hub(1.1)
    for number in range(kilobytes + 2):
        item = listener.get(timeout=20)
        assert item is not None
        assert item.payload.lstrip("x") == str(number)
    fence(listener, "full")
    assert events.names == ["CONNECTED"]


def test_what_a_listen_given_up_brings_is_dropped(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    listener.wait_connected(20)
    between.hold(DOWN)
    with pytest.raises(pglisten.OperationTimeout):
        listener.listen("x", timeout=0.1)
    server.notify("x", "no consumer wants this")
    between.release()
    listener.listen("y", timeout=20)
    fence(listener, "y")
