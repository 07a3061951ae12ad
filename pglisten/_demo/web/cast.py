"""Who takes part: the workers and the windows that each serves, for the page's drawing.

The workers tell one another by notifications on a channel of their own. A worker that begins, or that has
lost its connection, asks the others; each answers with its windows. The demo announces an outage there
before it begins. Any role of the database may send on the channel, so what makes no sense is ignored, and
what does is only drawn.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..._greenlet import Greenlet, spawn
from ..._sse.registry import streams
from ...broadcast import Broadcaster
from ...errors import Error, ListenerClosed
from ..door import Door

__all__ = ["Cast"]

NOTIFY_TIMEOUT = 5.0
"""Seconds for an announcement. If it fails, the connection is lost, and this worker asks when it is back."""

MOST_WINDOWS = 64
"""Windows of a worker that are announced: a payload has room for them, and a screen has not."""

LONGEST_OUTAGE = 60.0
"""Seconds; more is no announcement of the demo."""

LONGEST_NAME = 40


@dataclass(frozen=True)
class _Player:
    """A worker, as it has announced itself."""

    backend: str
    windows: tuple[str, ...]
    away: bool = False
    """Whether its connection is cut."""


class Cast:
    """All workers of the demo, as this worker knows them."""

    def __init__(self, broadcaster: Broadcaster, channel: str, door: Door | None = None) -> None:
        self.callbacks: set[Callable[[], None]] = set()
        """Functions that never wait, called after each change."""
        self.leaving = False
        """Whether this worker is about to be replaced."""
        self._broadcaster = broadcaster
        self._channel = channel
        self._door = door
        self._windows: list[str] = []
        self._players: dict[int, _Player] = {}
        self._outage = ("", 0.0)
        """Its kind, and when it ends (monotonic)."""
        self._greenlet: Greenlet | None = None

    def start(self) -> None:
        """Begin to listen, for as long as the process lives."""
        self._greenlet = spawn("demo-cast", self._run)

    def enter(self, window: str) -> None:
        """Add a window of this worker."""
        self._windows.append(window)
        self._announce()

    def leave(self, window: str) -> None:
        """Remove a window of this worker; do nothing if it is not there."""
        if window in self._windows:
            self._windows.remove(window)
            self._announce()

    def fields(self) -> dict[str, Any]:
        """Return everything for JSON."""
        kind, ends_at = self._outage
        left = max(0.0, ends_at - time.monotonic())
        workers = [
            {"worker": pid, "backend": each.backend, "windows": each.windows, "away": each.away}
            for pid, each in sorted(self._players.items())
            if _lives(pid)
        ]
        return {"workers": workers, "outage": {"kind": kind, "seconds": left} if left else None}

    def _run(self) -> None:
        try:
            subscription = self._broadcaster.subscribe(self._channel)
            self._ask()
            for item in subscription:
                if item is None:
                    self._outage = ("", 0.0)
                    self._ask()
                else:
                    # What is no announcement.
                    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                        self._take(json.loads(item.payload))
        except ListenerClosed:
            pass  # the worker ends

    def _ask(self) -> None:
        self._tell({"who": True})

    def _take(self, told: dict[str, Any]) -> None:
        if "who" in told:
            self._announce()
            return
        if "reload" in told:
            self.leaving = True
        elif "outage" in told:
            seconds = min(LONGEST_OUTAGE, float(told["seconds"]))
            self._outage = (str(told["outage"]), time.monotonic() + seconds)
            self._players = {
                pid: _Player(each.backend, each.windows, away=True) for pid, each in self._players.items()
            }
            if self._door is not None:
                self._door.close(seconds)
        else:
            windows = tuple(str(window)[:LONGEST_NAME] for window in told["windows"][:MOST_WINDOWS])
            self._players[int(told["worker"])] = _Player(str(told["backend"])[:LONGEST_NAME], windows)
            if told.get("ends"):
                del self._players[int(told["worker"])]
        for callback in tuple(self.callbacks):
            callback()

    def _announce(self) -> None:
        told = {
            "worker": os.getpid(),
            "backend": self._broadcaster.backend,
            "windows": self._windows[-MOST_WINDOWS:],
            "ends": streams.stopping,
        }
        # In a greenlet of its own: neither a page nor the subscription waits for it.
        spawn("demo-announce", self._tell, told)

    def _tell(self, what: dict[str, Any]) -> None:
        # Without a connection: when it is back, this worker asks.
        with contextlib.suppress(Error):
            self._broadcaster.notify(self._channel, json.dumps(what), NOTIFY_TIMEOUT)


def _lives(pid: int) -> bool:
    """Return whether that process is there: a worker that was killed says no goodbye."""
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return True
