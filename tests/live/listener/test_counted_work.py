"""Limits for the counted work of a notification: equal on every machine, busy or not.

The limits detect new work for each notification: a switch, a system call, a call of a function.
They leave room for a server that sends in small pieces.
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
from pglisten._connection.connect import dial
from pglisten._connection.target import Target
from support.fixtures.listeners import MakeListener, fence
from support.fixtures.servers import Server

COUNT, SINGLES = 10_000, 100
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


def _switches(function: Callable[[], object], *, to: list[greenlet.greenlet] | None = None) -> int:
    """Return how often greenlets were switched: all, or to certain ones."""
    switches = 0

    def note(_: str, greenlets: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
        nonlocal switches
        switches += to is None or greenlets[1] in to

    before = greenlet.settrace(note)
    try:
        function()
    finally:
        greenlet.settrace(before)
    print("switches:", switches)
    return switches


def _take(listener: Listener, count: int) -> None:
    items = iter(listener)
    for _ in range(count):
        assert next(items) is not None


def test_what_a_session_does_for_a_burst(server: Server, backend_name: str) -> None:
    target = Target(server.dsn(), backend_name, None)
    backend, (conninfo, _) = target.backend, target.current()
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
    # psycopg2: its codec for the channel and for the payload, a function in Python around one in C.
    # psycopg: to make its own tuple in Python, to decode channel and payload, once each.
    # pg8000: to unpack, to decode, to split, to append.
    assert calls.total() < (5.5 if backend_name == "pg8000" else 4.3) * COUNT


def test_what_a_listener_does_for_a_burst(listener: Listener, server: Server, backend_name: str) -> None:
    listener.listen("burst", timeout=20)
    server.query(BURST, COUNT)
    calls = _calls(lambda: _take(listener, COUNT))
    # The generator is entered for each, which counts as a call of it, and takes from a deque.
    assert calls["pglisten"] < 1.2 * COUNT
    # Beside what the session does: the generator, next(), the thread's ident, popleft().
    assert calls.total() < (9.5 if backend_name == "pg8000" else 8.5) * COUNT


def test_how_often_greenlets_are_switched_in_a_burst(listener: Listener, server: Server) -> None:
    listener.listen("burst", timeout=20)
    server.query(BURST, COUNT)
    switches = _switches(lambda: _take(listener, COUNT))
    assert switches < COUNT / 20


def _one_at_a_time(listener: Listener, server: Server) -> None:
    for _ in range(SINGLES):
        server.query(BURST, 1)
        _take(listener, 1)


def test_what_is_done_for_one_at_a_time(listener: Listener, server: Server) -> None:
    listener.listen("burst", timeout=20)
    loop = listener._supervisor.require_connection()._loop
    alarm = loop._alarm
    calls = _calls(lambda: _one_at_a_time(listener, server))
    # Once for it, and once more, which finds nothing; but not before its consumer has it.
    assert calls["poll"] + calls["read"] < 2.5 * SINGLES
    assert loop._alarm is alarm, "the heartbeat's timer was set anew"


def test_how_often_greenlets_are_switched_for_one_at_a_time(listener: Listener, server: Server) -> None:
    listener.listen("burst", timeout=20)
    switches = _switches(lambda: _one_at_a_time(listener, server))
    # To the hub, to the greenlet that reads, to the consumer; and the former looks for more, and waits.
    assert switches < 9 * SINGLES


@pytest.mark.parametrize("heartbeat", [None, 3600.0])
def test_idle_listeners_never_run_while_another_is_busy(
    make_listener: MakeListener, heartbeat: float | None
) -> None:
    idle = [make_listener(heartbeat_interval=heartbeat) for _ in range(5)]
    for number, listener in enumerate(idle):
        listener.listen(f"idle {number}", timeout=20)
        fence(listener, f"idle {number}")
    theirs: list[Any] = [gevent.spawn(listener.get) for listener in idle]
    for listener in idle:
        link = listener._supervisor.require_connection()
        theirs += [link._greenlet, listener._supervisor._greenlet]
    busy = make_listener()
    busy.listen("busy", timeout=20)

    def exchange(count: int) -> None:
        for _ in range(count):
            fence(busy, "busy")

    exchange(5)  # What the idle ones have begun is over by then.
    switches = _switches(lambda: exchange(50), to=theirs)
    gevent.killall(theirs[: len(idle)])
    assert switches == 0
