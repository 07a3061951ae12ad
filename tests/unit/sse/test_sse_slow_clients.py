"""The time limit for each chunk of a stream: which greenlets exceed it, and which do not."""

from __future__ import annotations

import gc

import gevent
import pytest
from gevent.event import Event

from pglisten import Broadcaster, Subscription, sse
from pglisten._sse.registry import streams
from pglisten.testing import FakeServer
from support.fixtures.programs import CHILDREN, StartProgram
from support.timeouts import TIMEOUT

LIMIT = 0.05


class Sending:
    """A greenlet that does what a server does: it takes chunks, and sends the last one forever."""

    def __init__(self, body: sse.EventStream, chunks: int = 1) -> None:
        self._body = body
        self._chunks = chunks
        self.sends = Event()
        self.finish = Event()
        self.greenlet = gevent.spawn(self._run)
        assert self.sends.wait(TIMEOUT)

    def _run(self) -> str:
        try:
            for _ in range(self._chunks):
                next(self._body, None)
            self.sends.set()
            self.finish.wait()
        except BrokenPipeError as error:
            return str(error)
        finally:
            self._body.close()
        return "finished"


def let_the_limit_pass(broadcaster: Broadcaster) -> None:
    """Wait until a chunk that is sent from now on exceeds its limit: earlier chunks do so before."""
    Sending(sse.stream(broadcaster.subscribe("fence"), send_timeout=LIMIT)).greenlet.get(timeout=TIMEOUT)


def test_a_client_that_takes_too_long_for_a_chunk_counts_as_gone(
    broadcaster: Broadcaster, subscription: Subscription
) -> None:
    sending = Sending(sse.stream(subscription, send_timeout=LIMIT))
    said = sending.greenlet.get(timeout=TIMEOUT)
    assert said == "[Errno 32] the client has not taken a chunk within 0.05 s"
    assert broadcaster.stats().subscriptions == 0


def test_a_stream_that_another_greenlet_closes_meanwhile_has_the_same_limit(
    broadcaster: Broadcaster, subscription: Subscription
) -> None:
    body = sse.stream(subscription, send_timeout=LIMIT)
    sending = Sending(body)
    body.close()
    assert broadcaster.stats().subscriptions == 0
    assert "has not taken" in sending.greenlet.get(timeout=TIMEOUT)


def test_a_stream_that_has_nothing_to_send_has_no_limit(
    server: FakeServer, broadcaster: Broadcaster, subscription: Subscription
) -> None:
    body = sse.stream(subscription, send_timeout=LIMIT)
    waiting = gevent.spawn(lambda: [next(body), next(body)])
    let_the_limit_pass(broadcaster)
    server.notify("orders", "late")
    assert b"late" in waiting.get(timeout=TIMEOUT)[1]


@pytest.mark.parametrize("end", ["end", "close"])
def test_a_greenlet_whose_stream_has_ended_is_left_alone(
    broadcaster: Broadcaster, subscription: Subscription, end: str
) -> None:
    body = sse.stream(subscription, send_timeout=LIMIT)

    def run() -> None:
        next(body)
        if end == "end":
            body.end()
            assert list(body) == []
        else:
            body.close()
        let_the_limit_pass(broadcaster)

    gevent.spawn(run).get(timeout=TIMEOUT)


def test_a_greenlet_whose_stream_is_dropped_is_left_alone(broadcaster: Broadcaster) -> None:
    def run() -> None:
        next(sse.stream(broadcaster.subscribe("orders"), send_timeout=LIMIT))
        gc.collect()
        let_the_limit_pass(broadcaster)

    gevent.spawn(run).get(timeout=TIMEOUT)


def test_the_last_chunk_of_a_stream_that_overflowed_can_be_aborted(broadcaster: Broadcaster) -> None:
    body = sse.stream(broadcaster.subscribe("orders", queue_size=1, overflow="close"))
    for payload in ("1", "2", "3"):
        broadcaster.notify("orders", payload)
    gevent.idle()
    sending = Sending(body, chunks=3)  # the preamble, the queue, the gap
    assert broadcaster.stats().subscriptions == 0
    try:
        streams.end()
        streams.abort()
        assert "aborted" in sending.greenlet.get(timeout=TIMEOUT)
    finally:
        streams.reset()


FORKED = (
    CHILDREN
    + """
from pglisten._sse.sender import Sender

def send(thrown, timeout):
    sender = Sender(timeout)
    sender.attach()
    sender.start_timer()
    try:
        gevent.sleep(40)
    except BrokenPipeError:
        thrown.append(os.getpid())

thrown = []
sends = gevent.spawn(send, thrown, 0.2)
gevent.idle()

def child():
    # Fence: a sender of the child itself exceeds its limit.
    own = []
    gevent.spawn(send, own, 0.2).join()
    assert (own, thrown, sends.dead) == ([os.getpid()], [], False)

pid = fork(child, "gevent")
sends.join()
assert thrown == [os.getpid()]
assert status(pid) == 0
print("well")
"""
)


def test_a_forked_childs_copy_of_the_greenlet_is_left_alone(start_program: StartProgram) -> None:
    start_program(FORKED, "plain").ends_well()
