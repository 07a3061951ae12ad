"""Event streams over HTTP from a real server: one session for all, gaps, and clients that disconnect."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from pglisten import Broadcaster, sse
from support.programs.event_source import EventSource
from support.servers.server import Server
from support.timeouts import TIMEOUT

HEARTBEAT = 0.05


@pytest.fixture
def port(broadcaster: Broadcaster) -> Iterator[int]:
    app = sse.app(broadcaster, lambda environ, channel: True, heartbeat=HEARTBEAT)
    with _serving(app) as web:
        yield web.server_port  # type: ignore[misc]  # Not None once it serves.


@contextlib.contextmanager
def _serving(app: Any) -> Iterator[WSGIServer]:
    web = WSGIServer(("127.0.0.1", 0), app, log=None, error_log=None)
    web.set_spawn(Pool())
    web.start()
    yield web
    web.stop(timeout=TIMEOUT)


@pytest.fixture
def connect(port: int) -> Iterator[Callable[..., EventSource]]:
    made: list[EventSource] = []

    def connect(query: str, **headers: str) -> EventSource:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        made.append(source := EventSource(port, f"/?{query}", named))
        source.wait_open()
        return source

    yield connect
    for source in made:
        source.close()


Connect = Callable[..., EventSource]


def _wait_subscriptions(broadcaster: Broadcaster, count: int) -> None:
    with gevent.Timeout(TIMEOUT):
        while broadcaster.stats().subscriptions != count:
            gevent.sleep(HEARTBEAT / 10)


def test_notifications_committed_after_the_stream_is_open_arrive(server: Server, connect: Connect) -> None:
    for number in range(10):
        source = connect(f"channel=c{number}")
        server.notify(f"c{number}", f"line 1\nline {number}")
        source.wait_data(str(number))
        (event,) = source.parser.events
        assert (event.type, event.data) == (f"c{number}", f"line 1\nline {number}")


def test_hundreds_of_streams_have_one_session_and_get_the_same(
    server: Server, broadcaster: Broadcaster, connect: Connect
) -> None:
    before = server.sessions()
    sources = [connect(f"channel=common&channel=own{number}") for number in range(200)]
    assert server.sessions() == before + 1
    for number in range(20):
        server.notify("common", str(number))
    server.notify("own150", "own")
    server.notify("common", "last")
    for number, source in enumerate(sources):
        source.wait_data("last")
        expected = [*map(str, range(20)), *(["own"] if number == 150 else []), "last"]
        assert [event.data for event in source.parser.events] == expected


def test_a_client_that_is_gone_is_noticed_by_the_heartbeat(
    broadcaster: Broadcaster, connect: Connect
) -> None:
    sources = [connect("channel=orders"), connect("channel=orders&channel=stock")]
    sources[1].wait(lambda source: len(source.parser.comments) >= 2)
    assert broadcaster.channels == {"orders", "stock"}
    sources[1].close()
    _wait_subscriptions(broadcaster, 1)
    assert broadcaster.channels == {"orders"}
    sources[0].close()
    _wait_subscriptions(broadcaster, 0)
    assert broadcaster.channels == frozenset()


def test_a_loss_is_a_gap_on_every_stream_and_later_notifications_arrive(
    server: Server, broadcaster: Broadcaster, connect: Connect
) -> None:
    sources = [connect("channel=orders") for _ in range(20)]
    server.notify("orders", "before")
    for source in sources:
        source.wait_data("before")
    pid = broadcaster.stats().server_pid
    assert pid is not None
    server.terminate(pid)
    for source in sources:
        source.wait(lambda source: len(source.parser.events) == 2)
    server.notify("orders", "after")
    for source in sources:
        source.wait_data("after")
        assert [event.type for event in source.parser.events] == ["orders", "gap", "orders"]


def test_a_client_that_reconnects_gets_a_gap(server: Server, connect: Connect) -> None:
    first = connect("channel=orders")
    server.notify("orders", "1")
    first.wait_data("1")
    first.close()
    server.notify("orders", "2")
    second = connect("channel=orders", Last_Event_ID=first.parser.last_event_id)
    server.notify("orders", "3")
    second.wait_data("3")
    assert [event.type for event in first.parser.events] == ["orders"]
    assert second.parser.events[0].type == "gap"


def test_a_client_that_takes_no_data_does_not_affect_the_others(
    server: Server, broadcaster: Broadcaster, port: int, connect: Connect
) -> None:
    source = connect("channel=orders")
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", port))
        stuck.sendall(b"GET /?channel=orders HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"200 OK" in stuck.recv(100)
        sent = 0
        while not broadcaster.stats().subscriptions_dropped:
            server.query("SELECT pg_notify('orders', repeat('x', 7000) || n) FROM generate_series(1, 50) n")
            sent += 50
            server.notify("orders", f"all {sent}")
            source.wait_data(str(sent))
            assert sent < 10_000
    assert [event.type for event in source.parser.events] == ["orders"] * (sent + sent // 50)
    _wait_subscriptions(broadcaster, 1)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_client_that_stops_reading_keeps_neither_its_stream_nor_its_connection(
    server: Server, broadcaster: Broadcaster, stopped: bool
) -> None:
    app = sse.app(broadcaster, lambda environ, channel: True, send_timeout=1, queue_size=100)
    with _serving(app) as web, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", web.server_port))
        stuck.sendall(b"GET /?channel=orders HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"200 OK" in stuck.recv(100)
        with gevent.Timeout(TIMEOUT):
            while not broadcaster.stats().subscriptions_dropped:
                server.query(
                    "SELECT pg_notify('orders', repeat('x', 7000) || n) FROM generate_series(1, 99) n"
                )
        if stopped:
            broadcaster.close()
        with gevent.Timeout(TIMEOUT):
            web.pool.join()
        assert broadcaster.stats().subscriptions == 0
