"""``--count`` and ``--timeout``: after how many items, or how long, a command ends."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

import gevent

from .ending import complain

__all__ = ["TIME_OVER", "Limits"]

TIME_OVER = 124
"""The exit status if the time is over too early: that of ``timeout`` of GNU coreutils."""


class Limits:
    """End after *count* items (``None``: never), or *timeout* seconds (``None``: never).

    *doing* and *items* are words for messages, as in "not listening" and "3 of 7 notifications".
    """

    def __init__(self, count: int | None, timeout: float | None, doing: str, items: str) -> None:
        self.begun = False
        """Whether items can arrive."""
        self._count = count
        self._timeout = timeout
        self._doing = doing
        self._items = items
        self._printed = 0
        self._is_printing = False
        self._is_late = False

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """End the block when the time is over."""
        time_over = gevent.Timeout(self._timeout)
        try:
            with time_over:
                yield
        except gevent.Timeout as error:
            if error is not time_over:
                raise
            self._is_late = True

    def print(self, print_item: Callable[[], None]) -> bool:
        """Call *print_item*; return whether that was the last item."""
        self._is_printing = True
        print_item()
        self._is_printing = False
        self._printed += 1
        return self._printed == self._count

    def status(self, stopped_by: int | None) -> int:
        """Return the exit status, and say why if it is an error. *stopped_by* is the signal, if any."""
        if stopped_by is not None:
            # Without a number to wait for, Ctrl-C is the usual end.
            return 0 if self._count is None else 128 + stopped_by
        if not self._is_late or (self.begun and self._count is None and not self._is_printing):
            return 0
        within = f"within {self._timeout:g} s"
        if self._is_printing:
            return complain(f"the last line was not taken as a whole {within}", TIME_OVER)
        if not self.begun:
            return complain(f"not {self._doing} {within}", TIME_OVER)
        return complain(f"{self._printed} of {self._count} {self._items} arrived {within}", TIME_OVER)
