"""Runs blocking work in threads that the application cannot exhaust.

gevent's thread pool belongs to the application: its ``spawn()`` waits while all of its threads are busy, and
they may be busy forever. So each piece of work here gets a thread of its own, which ends with the work. No
thread is idle, no owner has to stop one, and a forked child misses none.

A thread cannot be killed. If its caller stops waiting, the thread continues and its result is dropped. At
worst `MOST` threads hang in a file system that does not answer. Further work then waits until its own time
is over.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import gevent
from gevent import monkey
from gevent.event import Event
from gevent.lock import Semaphore

__all__ = ["Computed", "in_thread"]

T = TypeVar("T")

MOST = 10
"""Threads for one hub: as many as gevent's own pool has by default (``GEVENT_THREADPOOL``)."""

_start_new_thread: Callable[[Callable[[], None], tuple[()]], object] = monkey.get_original(
    "_thread", "start_new_thread"
)


class Computed(Generic[T]):
    """Hold the result of a function that runs in a thread."""

    __slots__ = ("_error", "_value", "done")

    def __init__(self) -> None:
        self.done = Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def run(self, function: Callable[[], T]) -> None:
        """Run *function*, in the thread."""
        try:
            self._value = function()
        except BaseException as error:  # noqa: BLE001 - raised by get()
            self._error = error

    def fail(self, error: Exception) -> None:
        """End it with *error*."""
        self._error = error
        self.done.set()

    def get(self) -> T:
        """Return what the function returned, or raise what it raised. Never waits.

        Raises ``OSError`` if the system has no thread left.
        """
        if self._error is not None:
            raise self._error
        return cast("T", self._value)


class _Threads:
    """The threads of one hub. Everything except the function runs in the hub's own thread."""

    def __init__(self, loop: Any) -> None:
        self.pid = os.getpid()
        self.free = Semaphore(MOST)
        self._loop = loop

    def start(self, function: Callable[[], T], computed: Computed[T]) -> None:
        """Run *function* in a thread. The caller has acquired ``free``, and the thread's end releases it."""

        def run() -> None:
            computed.run(function)
            with contextlib.suppress(ValueError):  # The loop was destroyed: no caller waits.
                self._loop.run_callback_threadsafe(end)

        def end() -> None:
            self.free.release()
            computed.done.set()

        try:
            _start_new_thread(run, ())
        except RuntimeError as error:
            self.free.release()
            computed.fail(OSError(errno.EAGAIN, str(error)))


_threads: weakref.WeakKeyDictionary[Any, _Threads] = weakref.WeakKeyDictionary()


def in_thread(function: Callable[[], T], timeout: float | None) -> Computed[T] | None:
    """Run *function* in a thread and wait cooperatively for its end.

    Returns ``None`` after *timeout* seconds (``None``: no limit). `Computed.get` raises what *function*
    raised; this call raises only what was thrown into the caller. If this times out or is killed, *function*
    continues in its thread and its result is dropped. *function* must not use gevent.
    """
    hub = gevent.get_hub()
    threads = _threads.get(hub)
    if threads is None or threads.pid != os.getpid():
        # In a forked child, the threads that the copy counts do not exist.
        threads = _threads[hub] = _Threads(hub.loop)
    deadline = None if timeout is None else time.monotonic() + timeout
    computed: Computed[T] = Computed()
    # Never sent to: it keeps the loop from ending while only a thread is busy.
    alive = hub.loop.async_()
    alive.start(int)
    try:
        if not threads.free.acquire(timeout=timeout):
            return None
        threads.start(function, computed)
        computed.done.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
    finally:
        alive.close()
    return computed if computed.done.is_set() else None
