"""When to try again. Pure: the clock's reading and the dice are handed in."""

from __future__ import annotations

from collections.abc import Callable


class Backoff:
    """The schedule of one listener's attempts.

    After a failure wait the interval, which then doubles up to the maximum; a connection resets it. After
    a loss wait until *minimum* seconds have passed since the connection was made: not at all if it lived
    that long.
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
        # Around the delay, not on top of it: the mean of many listeners stays what was configured.
        return delay * (1 + self._jitter * (2 * self._random() - 1))
