"""How one greenlet waits for what another carries out."""

from __future__ import annotations

import math

from gevent.event import Event

from .errors import OperationTimeout, copy_for_raise


class Completion:
    """The end of one piece of work: done, or an error. The first to resolve it wins.

    Whoever waits may be killed or time out at any moment: the work goes on without it.
    """

    __slots__ = ("_error", "_event")

    def __init__(self) -> None:
        self._event = Event()
        self._error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether it has been resolved."""
        return self._event.is_set()

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return self._error is not None

    def resolve(self, error: Exception | None = None) -> None:
        """End it, well (``None``) or with *error*. Never switches greenlets."""
        if not self._event.is_set():
            self._error = error
            self._event.set()

    def finished_within(self, timeout: float | None) -> bool:
        """Wait *timeout* seconds (``None``: for ever) for its end, well or not; return whether it came."""
        # It may end in the very turn of the event loop in which the time runs out.
        return self._event.wait(timeout) or self._event.is_set()

    def wait(self, timeout: float | None, what: str) -> None:
        """Wait *timeout* seconds (``None``: for ever); raise its error or an `OperationTimeout` on *what*."""
        if not self.finished_within(timeout):
            raise OperationTimeout(f"{what}: not done within {timeout:g} s")
        if (error := self.error) is not None:
            raise error

    @property
    def error(self) -> Exception | None:
        """The error with which it ended, as a new object: each who waits raises one of its own."""
        return None if self._error is None else copy_for_raise(self._error)


def check_timeout(timeout: float | None) -> float | None:
    """Return *timeout* in seconds from 0 up; raise `TypeError` or `ValueError` for what is no number.

    Below 0 it is the rest of a deadline that has passed, and counts as 0.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is seconds as float or None (wait for ever), not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError("timeout is seconds or None (wait for ever), not NaN")
    # An event loop takes no infinity; None means the same.
    return None if timeout == math.inf else max(0.0, float(timeout))
