"""Lets greenlets wait for work that another greenlet does."""

from __future__ import annotations

import math
from collections.abc import Callable

from gevent.event import Event

from ._text import one_line
from .errors import OperationTimeout, copy_for_raise


class Completion:
    """Wait for the end of one piece of work, with or without an error. The first `resolve` counts.

    A waiting greenlet may be killed or time out at any moment; the work continues.
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
        """End it without an error (``None``) or with *error*. Never switches greenlets."""
        if not self._event.is_set():
            self._error = error
            self._event.set()

    def finished_within(self, timeout: float | None) -> bool:
        """Wait at most *timeout* seconds (``None``: forever) for its end; return whether it has ended."""
        # It may end in the same turn of the event loop in which the time runs out.
        return self._event.wait(timeout) or self._event.is_set()

    def wait(
        self,
        timeout: float | None,
        what: str,
        *,
        outage: Callable[[], Exception | None] = lambda: None,
        stated: float | None = None,
    ) -> None:
        """Wait *timeout* seconds (``None``: forever); raise its error or `OperationTimeout` naming *what*.

        The latter has what *outage* returns as its cause. *stated* is the time in its text, if that is not
        *timeout*.
        """
        if not self.finished_within(timeout):
            raise timed_out(f"{what}: not done", timeout if stated is None else stated, outage())
        if (error := self.error) is not None:
            raise error

    @property
    def error(self) -> Exception | None:
        """The error with which it ended, as a copy for each caller to raise; ``None`` if there is none."""
        return None if self._error is None else copy_for_raise(self._error)


def timed_out(what: str, timeout: float | None, cause: Exception | None = None) -> OperationTimeout:
    """Return the error to raise because *what* has not happened within the caller's *timeout* seconds.

    *cause* says why it has not, if that is known.
    """
    why = "" if cause is None else f": {one_line(cause)}"
    error = OperationTimeout(f"{what} within {timeout:g} s{why}")
    error.__cause__ = cause
    return error


def check_timeout(timeout: float | None) -> float | None:
    """Return *timeout* in seconds, at least 0; raise `TypeError` or `ValueError` if it is no number.

    A negative number counts as 0: it is what remains of a deadline that has passed.
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is seconds as float or None (wait forever), not {timeout!r}")
    if math.isnan(timeout):
        raise ValueError("timeout is seconds or None (wait forever), not NaN")
    # The event loop does not accept infinity; None means the same.
    return None if timeout == math.inf else max(0.0, float(timeout))
