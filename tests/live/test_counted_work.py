"""What a notification may cost, in what can be counted: the same on every machine, whatever else it does.

What the limits are to notice is work that comes back for each notification: a switch, a system call, a call
of a function where there was none. They leave room for a server that sends in small pieces.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import gevent
import greenlet
import pytest
from gevent.socket import wait_read

from pglisten import Listener
from pglisten._dial import dial
from pglisten._options import target
from pglisten_listeners import MakeListener, fence
from pglisten_servers import Server

COUNT = 10_000
BURST = "SELECT count(pg_notify('burst', i || repeat('x', 60))) FROM generate_series(1, %s) i"


def _calls(function: Callable[[], object]) -> Counter[str]:
    """Return how often what was called: pglisten's functions, others in Python, and those in C by name."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, what: Any) -> None:
        if event == "call":
            calls["pglisten" if "pglisten" in frame.f_globals["__name__"] else "Python"] += 1
        elif event == "c_call":
            calls[what.__name__] += 1

    # Of the whole thread, whatever greenlets run in it meanwhile.
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    print(calls.most_common())
    return calls


def _switches(function: Callable[[], object]) -> int:
    """Return how often greenlets were switched."""
    switches = 0

    def note(*_: object) -> None:
        nonlocal switches
        switches += 1

    before = greenlet.settrace(note)
    try:
        function()
    finally:
        greenlet.settrace(before)
    return switches


def _take(listener: Listener, count: int) -> None:
    items = iter(listener)
    for _ in range(count):
        assert next(items) is not None


def test_what_a_session_does_for_a_burst(server: Server, backend_name: str) -> None:
    backend, conninfo = target(server.dsn(), backend_name)
    session = dial(backend, conninfo, 20, look_for_pooler=False)
    session.execute('LISTEN "burst"', 20)
    server.query(BURST, COUNT)
    taken = 0

    def receive() -> None:
        nonlocal taken
        while taken < COUNT:
            if batch := session.receive():
                taken += len(batch)
            else:
                wait_read(session.fileno(), timeout=20)

    try:
        calls = _calls(receive)
    finally:
        session.close()
    # Each read brings 100 and more, and each that brings nothing is followed by a wait.
    assert calls["poll"] + calls["read"] < COUNT / 30
    assert calls["pglisten"] < COUNT / 10
    # psycopg2: all of it in C. pg8000: to unpack, to decode, to split, to append.
    assert calls.total() < (COUNT / 2 if backend_name == "psycopg2" else 5.5 * COUNT)


def test_what_a_listener_does_for_a_burst(listener: Listener, server: Server, backend_name: str) -> None:
    listener.listen("burst", timeout=20)
    server.query(BURST, COUNT)
    calls = _calls(lambda: _take(listener, COUNT))
    # The generator is entered for each, which counts as a call of it, and takes from a deque.
    assert calls["pglisten"] < 1.2 * COUNT
    # Beside what the session does: the generator, next(), the thread's ident, popleft().
    assert calls.total() < (5.5 if backend_name == "psycopg2" else 9.5) * COUNT


def test_how_often_greenlets_are_switched_in_a_burst(listener: Listener, server: Server) -> None:
    listener.listen("burst", timeout=20)
    server.query(BURST, COUNT)
    switches = _switches(lambda: _take(listener, COUNT))
    print("switches:", switches)
    assert switches < COUNT / 20


def test_how_often_greenlets_are_switched_for_one_at_a_time(listener: Listener, server: Server) -> None:
    listener.listen("burst", timeout=20)

    def one_at_a_time() -> None:
        for _ in range(100):
            server.query(BURST, 1)
            _take(listener, 1)

    switches = _switches(one_at_a_time)
    print("switches:", switches)
    # To the hub, to the greenlet that reads, to the consumer; and the former looks for more, and waits.
    assert switches < 100 * 9


@pytest.mark.parametrize("heartbeat", [None, 3600.0])
def test_idle_listeners_wake_nobody_up(make_listener: MakeListener, heartbeat: float | None) -> None:
    listeners = [make_listener(heartbeat_interval=heartbeat) for _ in range(5)]
    for listener in listeners:
        listener.listen("idle", timeout=20)
        fence(listener, "idle")
    for listener in listeners:
        # What the other fences have sent here.
        while listener.stats().queue_depth:
            listener.get(timeout=20)
    waiting = [gevent.spawn(listener.get) for listener in listeners]
    gevent.sleep(0.2)
    switches = _switches(lambda: gevent.sleep(0.5))
    gevent.killall(waiting)
    assert switches == 2, "to the hub and back: this test's own"
