"""Forks while a broadcaster is at work: the copies of its greenlets in the child do nothing."""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN

BEGINNING = """
import pglisten
from pglisten import Broadcaster, Notification
from pglisten.testing import FakeBackend, FakeServer

server = FakeServer()
broadcaster = Broadcaster("", backend=FakeBackend(server), min_reconnect_interval=0.001)

def copies_have_their_turn():
    # In the child: what the parent's greenlets were about to do.
    gevent.reinit()
    server.thaw()
    gevent.sleep(0.1)
"""

ONE_WAITS_TO_SUBSCRIBE = """
kept = broadcaster.subscribe("kept", timeout=20)
server.freeze()
waiting = gevent.spawn(broadcaster.subscribe, "own", timeout=0.05)
gevent.idle()

def child():
    copies_have_their_turn()
    assert isinstance(waiting.exception, pglisten.OperationTimeout)
    assert not server.sessions()

assert status(fork(child)) == 0
"""

ONE_WAS_COLLECTED_JUST_NOW = """
subscription = broadcaster.subscribe("own", timeout=20)
del subscription

def child():
    copies_have_their_turn()
    assert not server.sessions()

assert status(fork(child)) == 0
"""

A_NOTIFICATION_IS_BEING_HANDED_OUT = """
seen, children = [], []

def consume(number, subscription):
    try:
        seen.append(subscription.get(20).payload)
    except pglisten.ListenerClosed:
        seen.append("closed")
        return
    if number == 10:
        children.append(fork(child))

def child():
    seen.clear()
    copies_have_their_turn()
    assert set(seen) == {"closed"}, set(seen)

consuming = [gevent.spawn(consume, n, broadcaster.subscribe("a", timeout=20)) for n in range(1200)]
gevent.idle()
server.notify("a", "the parent's")
gevent.joinall(consuming, timeout=20, raise_error=True)
assert status(children[0]) == 0
assert seen == ["the parent's"] * 1200
"""

A_CLOSED_ONE_HAS_SOMETHING_QUEUED = """
subscription, other = [broadcaster.subscribe("a", timeout=20) for _ in range(2)]
server.notify("a", "the parent's")
assert other.get(20).payload == "the parent's"

def child():
    assert subscription.closed
    try:
        raise AssertionError(subscription.get(20))
    except pglisten.ListenerClosed:
        pass

assert not subscription.closed
assert status(fork(child)) == 0
subscription.close()
assert status(fork(child)) == 0
assert subscription.get(20).payload == "the parent's"
"""

ALL_WAIT_FOR_ONE = """
slow = broadcaster.subscribe("a", queue_size=1, overflow="block", timeout=20)
quick = broadcaster.subscribe("a", timeout=20)
for payload in "123":
    server.notify("a", payload)
broadcaster.ping(20)

def child():
    copies_have_their_turn()
    slow.close()
    own = broadcaster.subscribe("a", timeout=20)
    assert broadcaster.stats().subscriptions == 1
    broadcaster.notify("a", "the child's", 20)
    assert own.get(20).payload == "the child's"
    broadcaster.close()
    assert not server.sessions()

assert status(fork(child)) == 0
assert [slow.get(20).payload for _ in range(3)] == ["1", "2", "3"]
assert [quick.get(20).payload for _ in range(3)] == ["1", "2", "3"]
"""

END = """
broadcaster.close()
print("well")
"""

MOMENTS = {
    "one waits to subscribe": ONE_WAITS_TO_SUBSCRIBE,
    "one was collected just now": ONE_WAS_COLLECTED_JUST_NOW,
    "a notification is being handed out": A_NOTIFICATION_IS_BEING_HANDED_OUT,
    "a closed one has something queued": A_CLOSED_ONE_HAS_SOMETHING_QUEUED,
    "all wait for one": ALL_WAIT_FOR_ONE,
}


@pytest.mark.slow
@pytest.mark.parametrize("patched", ["plain", "patched"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_child_consumes_nothing_of_its_parents_and_has_a_connection_of_its_own(
    moment: str, patched: str
) -> None:
    succeeds(CHILDREN + BEGINNING + MOMENTS[moment] + END, patched)
