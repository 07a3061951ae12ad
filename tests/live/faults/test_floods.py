"""A server that never stops talking, in a process of its own: neither memory nor time is exhausted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gevent
import pytest

from pglisten import ConnectionFailed, ConnectionLost, ListenerConnection, OperationTimeout
from support.servers.wrong_server import (
    DONE,
    STATUS,
    Endless,
    Script,
    authentication,
    elsewhere,
    error,
    message,
    notice,
    notification,
)
from support.timeouts import TIMEOUT

pytestmark = pytest.mark.slow  # Each lasts until a timeout.

SHORT = 0.5
"""Seconds after which a call ends during a flood."""

PROMPT = 1.0
"""Seconds within which a connection closes."""

ROOM = 64 << 20
"""Bytes that a process may grow by: loopback brings several times as much in that time."""

LONG = "x" * 1000
AN_ERROR_WITHOUT_END = b"E\x7f\xff\xff\xff"
A_NOTICE_WITHOUT_END = b"N\x7f\xff\xff\xff"


def memory() -> int:
    """Return the bytes of this process that are in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError


@contextmanager
def within_bounds(backend_name: str) -> Iterator[None]:
    """Assert that other greenlets run meanwhile and memory stays level; libpq keeps whole messages."""
    before, most = memory(), 0

    def look() -> None:
        nonlocal most
        while True:
            most = max(most, memory())
            gevent.sleep(0.02)

    looking = gevent.spawn(look)
    try:
        with gevent.Timeout(SHORT + 3 * TIMEOUT):
            yield
    finally:
        looking.kill()
    assert most, "no other greenlet had a turn"
    if backend_name == "pg8000":
        assert most - before < ROOM


STARTS = {
    "notices": Script(startup=(authentication(0) + STATUS, Endless(notice(LONG)))),
    "settings": Script(startup=(authentication(0), Endless(STATUS))),
    "an error": Script(startup=(AN_ERROR_WITHOUT_END, Endless(b"x"))),
    "a notice": Script(startup=(authentication(0) + A_NOTICE_WITHOUT_END, Endless(b"x"))),
}


@pytest.mark.parametrize("flood", STARTS)
def test_a_start_up_without_end_is_one_failed_attempt(backend_name: str, flood: str) -> None:
    with elsewhere(STARTS[flood]) as dsn, within_bounds(backend_name), pytest.raises(ConnectionFailed):
        ListenerConnection(dsn, backend=backend_name, connect_timeout=SHORT)


ANSWERS = {
    "notices": (Endless(notice(LONG)),),
    "errors": (Endless(error(text=LONG)),),
    "an error": (AN_ERROR_WITHOUT_END, Endless(b"x")),
    "a notice": (A_NOTICE_WITHOUT_END, Endless(b"x")),
    "settings": (Endless(STATUS),),
}


@pytest.mark.parametrize("flood", ANSWERS)
def test_an_answer_without_end_ends_the_connection(backend_name: str, flood: str) -> None:
    with elsewhere(Script(answers=((DONE,), ANSWERS[flood]))) as dsn, within_bounds(backend_name):
        connection = ListenerConnection(dsn, backend=backend_name, connect_timeout=TIMEOUT)
        try:
            connection.execute("SELECT 1", timeout=TIMEOUT)
            with pytest.raises((OperationTimeout, ConnectionLost)):
                connection.ping(timeout=SHORT)
            with pytest.raises(ConnectionLost):
                connection.get(timeout=TIMEOUT)
        finally:
            connection.close()


def test_a_call_ends_at_once_amid_notifications_without_end(backend_name: str) -> None:
    flood = Endless(notification(b"x"))
    with elsewhere(Script(answers=((DONE,), (flood,)))) as dsn:
        connection = ListenerConnection(dsn, backend=backend_name, connect_timeout=TIMEOUT)
        try:
            connection.execute("SELECT 1", timeout=TIMEOUT)
            asking = gevent.spawn(connection.execute, "SELECT 1")
            gevent.sleep(SHORT)  # The flood's.
            started = time.monotonic()
            connection.close(timeout=TIMEOUT)
            asking.join()
            assert time.monotonic() - started < PROMPT
        finally:
            connection.close()


def test_a_listen_without_its_row_is_a_loss_amid_notifications_without_end(backend_name: str) -> None:
    flood = Endless(notification(b"x"))
    with elsewhere(Script(answers=((DONE, flood),))) as dsn:
        connection = ListenerConnection(dsn, backend=backend_name, connect_timeout=TIMEOUT)
        try:
            with within_bounds("any"):
                with pytest.raises(ConnectionLost, match="runs only the first"):
                    connection.listen("orders", timeout=TIMEOUT)
                with pytest.raises(ConnectionLost, match="runs only the first"):
                    list(connection)
        finally:
            connection.close()


def test_rows_without_end_take_no_room() -> None:
    row = message(b"D", b"\0\1" + (1000).to_bytes(4, "big") + b"x" * 1000)
    flood = (message(b"T", b"\0\1t\0" + bytes(18)), Endless(row))
    with elsewhere(Script(answers=(flood,))) as dsn, within_bounds("pg8000"):
        connection = ListenerConnection(dsn, backend="pg8000", connect_timeout=TIMEOUT)
        try:
            with pytest.raises(OperationTimeout):
                connection.execute("SELECT 1", timeout=SHORT)
        finally:
            connection.close()


@pytest.mark.parametrize("flood", [notice(LONG), STATUS], ids=["notices", "settings"])
def test_an_endless_unasked_message_delays_no_other_greenlet(backend_name: str, flood: bytes) -> None:
    with elsewhere(Script(answers=((DONE, Endless(flood)),))) as dsn, within_bounds(backend_name):
        connection = ListenerConnection(dsn, backend=backend_name, connect_timeout=TIMEOUT)
        try:
            connection.execute("LISTEN orders", timeout=TIMEOUT)
            with pytest.raises(OperationTimeout):
                connection.get(timeout=SHORT)
        finally:
            connection.close()
