"""The end of a stream, in every way it can come, closes its subscription."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from pglisten import Broadcaster, Subscription, gunicorn, sse
from pglisten._sse.registry import streams
from pglisten.testing import FakeBackend, FakeServer
from support.fixtures.programs import CHILDREN, StartProgram
from support.programs.event_source import parse
from support.timeouts import TIMEOUT


@pytest.mark.parametrize("chunks", [0, 1])
def test_close_closes_the_subscription_of_an_iterated_and_of_a_new_stream(
    subscription: Subscription, chunks: int, unsubscribed: Callable[[], bool]
) -> None:
    body = sse.stream(subscription)
    for _ in range(chunks):
        next(body)
    body.close()
    body.close()
    assert unsubscribed()
    assert list(body) == []


def test_a_stream_without_references_closes_its_subscription(
    broadcaster: Broadcaster, unsubscribed: Callable[[], bool]
) -> None:
    before = len(streams)
    body = sse.stream(broadcaster.subscribe("orders"))
    next(body)
    assert len(streams) == before + 1
    del body
    gc.collect()
    gevent.idle()
    assert unsubscribed()
    assert len(streams) == before


def test_a_kill_during_a_wait_closes_the_subscription(
    subscription: Subscription, unsubscribed: Callable[[], bool]
) -> None:
    body = sse.stream(subscription)
    next(body)
    waiting = gevent.spawn(next, body)
    gevent.idle()
    waiting.kill(timeout=TIMEOUT)
    assert unsubscribed()
    assert list(body) == []


def test_when_all_streams_end_each_sends_its_queue(
    server: FakeServer, broadcaster: Broadcaster, subscription: Subscription, stopping: None
) -> None:
    body = sse.stream(subscription)
    idle = sse.stream(broadcaster.subscribe("orders"))
    going_on = broadcaster.subscribe("orders")
    next(body), next(idle)
    ended = gevent.spawn(b"".join, idle)
    server.notify("orders", "queued")
    item = going_on.get(TIMEOUT)
    streams.end()
    assert [event.data for event in parse(b"".join(body)).events] == ["queued"]
    assert [event.data for event in parse(ended.get(timeout=TIMEOUT)).events] == ["queued"]
    assert item is not None
    assert not going_on.closed


def test_a_stream_that_is_made_in_a_stopping_process_ends_at_once(
    subscription: Subscription, stopping: None, unsubscribed: Callable[[], bool]
) -> None:
    streams.end()
    body = sse.stream(subscription, retry=1)
    assert parse(b"".join(body)).retry == 1000
    assert unsubscribed()


def test_the_wait_ends_when_the_server_has_closed_all_streams(
    broadcaster: Broadcaster, stopping: None
) -> None:
    bodies = [sse.stream(broadcaster.subscribe("orders")) for _ in range(3)]
    assert not streams.wait_closed(0)
    streams.end()
    for body in bodies:
        list(body)
        assert not streams.wait_closed(0)
        body.close()
        assert streams.wait_closed(0) is (body is bodies[-1])


def test_abort_interrupts_a_greenlet_that_sends_and_no_other(
    broadcaster: Broadcaster, stopping: None
) -> None:
    stuck, over = (sse.stream(broadcaster.subscribe("orders")) for _ in range(2))
    never = gevent.event.Event()

    def hold(body: sse.EventStream, chunks: int) -> None:
        for _ in range(chunks):
            next(body, None)
        with contextlib.suppress(BrokenPipeError):
            never.wait()

    holders = [gevent.spawn(hold, stuck, 1), gevent.spawn(hold, over, 2)]
    gevent.idle()
    streams.end()
    gevent.idle()
    streams.abort()
    holders[0].join(TIMEOUT)
    assert holders[0].dead
    gevent.idle()
    assert not holders[1].dead
    never.set()
    holders[1].get(timeout=TIMEOUT)


def test_abort_also_works_if_an_agent_has_replaced_the_class_of_greenlets(
    broadcaster: Broadcaster, stopping: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, never = sse.stream(broadcaster.subscribe("orders")), gevent.event.Event()

    def hold() -> None:
        next(body)
        never.wait()

    holder = gevent.spawn(hold)  # A server does this too: it has kept gevent's own class.
    monkeypatch.setattr(gevent, "Greenlet", type("TracedGreenlet", (gevent.Greenlet,), {}))
    gevent.idle()
    streams.end()
    gevent.idle()
    streams.abort()
    holder.join(TIMEOUT)
    assert holder.dead


def test_a_forked_worker_begins_without_the_streams_of_its_master(
    broadcaster: Broadcaster, subscription: Subscription, stopping: None
) -> None:
    body = sse.stream(subscription)
    gunicorn.post_fork(None, None)
    assert len(streams) == 0
    streams.end()
    assert not subscription.closed
    body.close()


FORKED = (
    CHILDREN
    + """
from pglisten import Broadcaster, sse
from pglisten.testing import FakeBackend, FakeServer

def ask():
    environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": "channel=orders"}
    statuses = []
    bodies.append(app(environ, lambda status, headers: statuses.append(status)))
    return statuses[0]

def child():
    assert [ask(), ask()] == ["200 OK", "503 Service Unavailable"]

bodies = []
broadcaster = Broadcaster("", backend=FakeBackend(FakeServer()))
app = sse.app(broadcaster, lambda environ, channel: True, max_streams=1)
assert ask() == "200 OK"
assert status(fork(child, "gevent")) == 0
assert ask() == "503 Service Unavailable"
print("well")
"""
)


def test_the_streams_of_its_parent_do_not_count_in_a_forked_child(start_program: StartProgram) -> None:
    start_program(FORKED, "plain").ends_well()


def test_a_worker_without_gevent_gets_a_warning(capacity: None) -> None:
    class Log:
        def warning(self, message: str) -> None:
            warnings.append(message)

    class Config:
        worker_connections = 1000

    class Worker:
        alive = True
        cfg = Config()
        log = Log()

        def notify(self) -> None:
            raise AssertionError

    warnings: list[str] = []
    worker: Any = Worker()
    gunicorn.post_worker_init(worker)
    assert len(warnings) == 1
    assert "not a gevent worker" in warnings[0]


def test_the_end_of_a_worker_closes_the_broadcasters_that_were_used(
    server: FakeServer, stopping: None
) -> None:
    used, unused = (Broadcaster("", backend=FakeBackend(server)) for _ in range(2))
    used.wait_connected(TIMEOUT)
    assert server.sessions()
    gunicorn.worker_exit(None, None)
    assert used.closed
    assert not server.sessions()
    unused.close()
