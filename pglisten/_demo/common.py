"""What the demo's processes agree on: names in the database, and lengths of time. Pure."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FIRST_RETRY", "LONGEST_RETRY", "OUTAGE", "Names"]

OUTAGE = 5.0
"""Seconds that the listeners are kept away: long enough to read what happens, and to send something."""

FIRST_RETRY = 0.25
"""Seconds. Short, so that several attempts fail during an outage."""

LONGEST_RETRY = 0.5
"""Seconds; short for the same reason. Programs should use the defaults of both."""


@dataclass(frozen=True)
class Names:
    """What the demo calls its things in the database."""

    channel: str
    backstage: str
    """The channel on which the workers and the demo talk to one another; see `pglisten._demo.web.cast`."""
    log: str | None
    """The event log; ``None`` if there is none."""
