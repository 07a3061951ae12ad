"""The end of an operation that waits several times."""

from __future__ import annotations

import time

__all__ = ["Deadline", "DeadlinePassed"]


class DeadlinePassed(Exception):
    """The time for an operation is over.

    A backend catches this error and raises what its interface promises. It is no ``TimeoutError``, because
    the system raises that class when TCP_USER_TIMEOUT ends a connection.
    """


class Deadline:
    """A moment on the monotonic clock, up to which an operation may wait.

    One operation makes several waits. A timeout for each would start anew with each, and a server that sends
    byte after byte could hold the caller forever.
    """

    __slots__ = ("_end",)

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    @property
    def passed(self) -> bool:
        """Whether the time is over; never if the timeout was ``None``."""
        return self._end is not None and time.monotonic() >= self._end

    def check(self) -> None:
        """Raise `DeadlinePassed` if the time is over."""
        if self.passed:
            raise DeadlinePassed

    def remaining(self) -> float | None:
        """Return the seconds left, 0.0 after the deadline; ``None`` means no limit."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def overrun(self) -> float:
        """Return the seconds since the deadline, 0.0 before it or without a limit."""
        return 0.0 if self._end is None else max(0.0, time.monotonic() - self._end)
