"""Counts refused streams, so that an outage is two lines in the log and not one for each stream. Pure."""

from __future__ import annotations

__all__ = ["QUIET", "Outage"]

QUIET = 10.0
"""Seconds after an outage in which another one is only counted: some streams may fail while others do not."""


class Outage:
    """Decide what to log about refused streams. The methods return a text, or ``None`` for nothing."""

    def __init__(self) -> None:
        self._refused = 0
        self._began: float | None = None
        """When the first stream of this outage was refused; ``None`` while streams are served."""
        self._quiet_until = 0.0

    def refused(self, cause: str, now: float) -> str | None:
        """Note that a stream was refused at *now* seconds."""
        self._refused += 1
        if self._began is not None:
            return None
        if now < self._quiet_until:
            return None
        self._began = now
        return f"event streams are refused: {cause}"

    def served(self, now: float) -> str | None:
        """Note that a stream was opened at *now* seconds."""
        if self._began is None:
            return None
        seconds, refused = now - self._began, self._refused
        self._began, self._refused, self._quiet_until = None, 0, now + QUIET
        return f"event streams are served again: {refused} were refused in {seconds:.1f} s"
