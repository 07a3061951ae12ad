"""Tells whether a call may wait.

No call can wait in the event loop: in its callbacks, and in the handler of a signal that arrived while it
ran. No call may wait in a signal handler (or a finalizer) that has interrupted this package. Other greenlets
would run in the middle of a change, or the greenlet that does the work would wait for itself.

The stack shows whether a handler has interrupted this package: below the handler's frames is a frame of this
package that has not called it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import TypeVar

from gevent.hub import Hub
from greenlet import getcurrent

from ._greenlet import spawn
from .errors import Error

__all__ = [
    "calls_back",
    "cannot_wait",
    "check_may_wait",
    "check_uninterrupted",
    "close_or_begin_to",
    "interrupts",
]

ENTRANCES = frozenset(
    {
        "pglisten.listener",
        "pglisten.connection",
        "pglisten.broadcast",
        "pglisten._broadcast.subscription",
        "pglisten.eventlog",
        "pglisten._eventlog.follower",
        "pglisten._eventlog.reader",
        "pglisten._listener.supervisor",
        "pglisten._connection.live",
        "pglisten._broadcast.fanout",
        "pglisten._socketio.outbox",
    }
)
"""Each stack of this package has a frame of one of these modules: the public calls, and what its greenlets
run. The event callback's greenlet is an exception: it runs the application's code."""

Function = TypeVar("Function", bound=Callable[..., object])

_callers: set[CodeType] = set()


def calls_back(function: Function) -> Function:
    """Mark a *function* of these modules that calls the application's code; that code may wait."""
    _callers.add(function.__code__)
    return function


def interrupts() -> bool:
    """Whether the current call of this package comes from a handler that has interrupted this package."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None and _name(frame).startswith("pglisten."):
        frame = frame.f_back
    while frame is not None:
        if _name(frame) in ENTRANCES:
            return frame.f_code not in _callers
        frame = frame.f_back
    return False


def check_may_wait() -> None:
    """Raise `Error` if no call may wait here."""
    if isinstance(getcurrent(), Hub):
        raise cannot_wait()
    check_uninterrupted()


def check_uninterrupted() -> None:
    """Raise `Error` in a handler that has interrupted this package."""
    if interrupts():
        raise Error(
            "called in a signal handler or finalizer that has interrupted pglisten: have a greenlet make the "
            "call, with gevent.spawn()"
        )


def cannot_wait() -> Error:
    """Return the error for a call that would have to wait in the event loop."""
    return Error(
        "called in the event loop (in a callback, or in a signal handler), where nothing can wait: have a "
        "greenlet make the call, with gevent.spawn()"
    )


def close_or_begin_to(close: Callable[[float | None], None], timeout: float | None) -> None:
    """Call *close*, which waits. If no call may wait here, have a greenlet call it, and return at once."""
    if isinstance(getcurrent(), Hub) or interrupts():
        spawn("pglisten-closer", close, timeout)
    else:
        close(timeout)


def _name(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__"))
