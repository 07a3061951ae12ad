"""Exceptions that an application throws into a waiting greenlet: each must come out unchanged."""

from __future__ import annotations

import time
from collections.abc import Callable

import gevent

from pglisten.errors import (
    ChannelNotOpen,
    ConnectionFailed,
    ConnectionLost,
    ListenerClosed,
    OperationTimeout,
    ServerError,
)

__all__ = ["THROWN_IN", "throw_into"]


class _Mine(Exception):
    """An application's own."""


class _MyOSError(OSError):
    """One that a system call could have raised."""


class _MyTimeout(TimeoutError):
    """One that a driver could have raised."""


class _MyAbort(ConnectionAbortedError):
    """One of the network's."""


class _MyValueError(ValueError):
    """One that a parser could have raised."""


class _MyBase(BaseException):
    """One that ``except Exception`` lets pass."""


_TEXT = "the application's own"

THROWN_IN: dict[str, Callable[[], BaseException]] = {
    **{
        kind.__name__: kind
        for kind in (
            _Mine, _MyOSError, _MyTimeout, _MyAbort, _MyValueError, _MyBase,
            OperationTimeout, ListenerClosed, ChannelNotOpen,
        )
    },
    "ConnectionFailed": lambda: ConnectionFailed(_TEXT, sqlstate="28P01"),
    "ConnectionLost": lambda: ConnectionLost(_TEXT),
    "ServerError": lambda: ServerError(_TEXT),
}  # fmt: skip
"""Makers of exceptions, by name: also those that the library and its drivers raise themselves."""

PROMPT = 1.0
"""Seconds within which it must come out; it takes a millisecond."""


def throw_into(call: Callable[[], object], error: BaseException, reached: Callable[[], object]) -> None:
    """Run *call* in a greenlet, throw *error* in once *reached* returns; assert that just that comes out."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as raised:  # noqa: BLE001 - compared below
            outcome.append(raised)

    caller = gevent.spawn(run)
    try:
        with gevent.Timeout(20):
            reached()
        assert outcome == []
        started = time.monotonic()
        caller.kill(error, timeout=20)
        took = time.monotonic() - started
    finally:
        caller.kill()
    assert outcome == [error]
    assert outcome[0] is error
    assert took < PROMPT, took
