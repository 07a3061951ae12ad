"""Counts what a listener received and what it missed. Pure."""

from __future__ import annotations

__all__ = ["Tally", "count"]


class Tally:
    """Counts the numbered notifications that came, those that did not, and the gap markers."""

    def __init__(self) -> None:
        self.received = 0
        self.missed = 0
        self.unannounced = 0
        """Missed notifications without a gap marker in their place: more than 0 is a bug in pglisten."""
        self.gaps = 0
        self._newest = 0
        self._gap_since = False

    def notification(self, number: int) -> None:
        """Count a notification; numbers start at 1."""
        missed = number - self._newest - 1
        self.received += 1
        self.missed += missed
        if not self._gap_since:
            self.unannounced += missed
        self._newest, self._gap_since = number, False

    def gap(self) -> None:
        """Count a gap marker."""
        self.gaps += 1
        self._gap_since = True

    def summary(self) -> str:
        """Return the counts in a few words."""
        text = f"{self.received} received, {self.missed} missed"
        if self.unannounced:
            return f"{text} ({self.unannounced} WITHOUT a gap marker: please report it)"
        return f"{text} (gap marker)" if self.missed else text


def count(number: int, noun: str) -> str:
    """Return *number* and *noun*, in the plural if need be."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
