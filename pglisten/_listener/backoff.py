"""Computes when to connect again. Pure: the time and the random numbers are arguments."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """Compute the delays between one listener's attempts, in seconds.

    After a failure the delay is the interval, which then doubles up to *maximum*. A connection resets it to
    *minimum*. After a loss the delay ends *minimum* seconds after the connection was made; it is 0 if the
    connection lived that long. *random* returns numbers from 0 to 1.
    """

    def __init__(self, minimum: float, maximum: float, jitter: float, random: Callable[[], float]) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._jitter = jitter
        self._random = random
        self._interval = minimum
        self._next = 0.0

    def after_failure(self) -> float:
        """Return the seconds to sleep after a failed attempt."""
        interval = self._interval
        self._interval = min(2 * interval, self._maximum)
        return self._jittered(interval)

    def connected(self, now: float) -> None:
        """Note that a connection was made at *now* seconds."""
        self._interval = self._minimum
        self._next = now + self._minimum

    def after_loss(self, now: float) -> float:
        """Return the seconds to sleep after a connection was lost at *now* seconds."""
        return self._jittered(max(0.0, self._next - now))

    def _jittered(self, delay: float) -> float:
        # Vary in both directions: the mean of many listeners stays what was configured.
        return delay * (1 + self._jitter * (2 * self._random() - 1))
