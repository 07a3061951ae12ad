"""One backend in the demo's terminal: what it received by notification alone, and by the event log."""

from __future__ import annotations

from collections.abc import Callable

import gevent
from gevent.event import Event

from .._greenlet import Greenlet, spawn
from ..broadcast import Broadcaster
from ..errors import Error, ListenerClosed, OperationTimeout
from ..eventlog import Entry, EventLog
from ..listener import ListenerEvent
from .behind import follow, hear
from .common import FIRST_RETRY, LONGEST_RETRY, Names
from .screen import Look, Screen
from .shop import message_of, order_number
from .tally import Tally, count

__all__ = ["Watcher"]

START_TIMEOUT = 10.0
"""Seconds to connect and listen; the server has just accepted another connection."""

CALLBACK_GRACE = 0.1
"""Seconds for the last event to be printed. The reader may have gone, and the demo ends within a second."""


class Watcher:
    """Follows the shop's channel with one backend, and prints what it receives, until the last order."""

    def __init__(self, screen: Screen, dsn: str | Callable[[], str], name: str, names: Names) -> None:
        """Connect, listen and follow; return when all of it has begun. Raises `Error` if it cannot."""
        self.name = name
        self.tally = Tally()
        self.last_order: int | None = None
        """The number of the last order, once it is known."""
        self._screen = screen
        self._read = 0
        self._failed = 0
        """Attempts since the start or the loss."""
        self._heard: set[str] = set()
        self._started = {step: Event() for step in ("connected", "listening", "following")}
        self._last = {step: Event() for step in ("heard", "read")}
        self._broadcaster = Broadcaster(
            dsn,
            backend=name,
            min_reconnect_interval=FIRST_RETRY,
            max_reconnect_interval=LONGEST_RETRY,
            event_callback=self._event,
        )
        self._log = None if names.log is None else EventLog(names.log, self._broadcaster)
        self._failure: Error | None = None
        channel = names.channel
        self._greenlets: list[Greenlet] = [
            spawn(f"demo-{name}", self._run, lambda: hear(self._broadcaster, channel, self))
        ]
        if self._log is None:
            self._started["following"].set()
            self._last["read"].set()
        else:
            log = self._log
            self._greenlets.append(
                spawn(f"demo-{name}-log", self._run, lambda: follow(log, channel, None, self))
            )
        try:
            self._wait_started()
        except BaseException:
            # No caller can close it yet.
            self.close()
            raise

    def _wait_started(self) -> None:
        # The line of the event has to be printed too: the first order must come after it.
        if len(gevent.wait(list(self._started.values()), START_TIMEOUT)) < len(self._started):
            reason = self._broadcaster.stats().last_error
            raise OperationTimeout(f"{self.name} does not listen within {START_TIMEOUT:g} s: {reason}")
        if self._failure is not None:
            raise self._failure

    def wait_for_last(self, timeout: float) -> None:
        """Wait until the last order has arrived both ways, *timeout* seconds at most."""
        gevent.wait(list(self._last.values()), timeout)

    def close(self) -> None:
        """Close the broadcaster, which ends both greenlets."""
        self._broadcaster.close(CALLBACK_GRACE)
        # Not joined: they may wait for a reader of standard output that has gone.
        gevent.killall(self._greenlets, block=False)

    def summary(self) -> str:
        """Return the counts in one line."""
        stats = self._broadcaster.stats()
        failed = count(stats.failed_attempts, "attempt")
        back = count(stats.reconnects, "reconnection")
        log = "" if self._log is None else f"; by the event log {self._read} received"
        return f"{self.tally.summary()}{log}; {failed} failed, {back}"

    # The book: see `pglisten._demo.behind`.

    def listening(self) -> None:
        """Note that the channel is acknowledged."""
        self._started["listening"].set()

    def gap(self) -> None:
        """Count and print the gap marker."""
        self.tally.gap()
        self._screen.tell(self.name, "None, the gap marker: some may have been missed, so reload", Look.GAP)

    def heard(self, payload: str) -> None:
        """Count and print a notification."""
        key, text = message_of(payload)
        number = order_number(text)
        # Other programs may send to the channel, if the server is the user's own.
        if number is not None:
            self.tally.notification(number)
        self._heard.add(key)
        self._screen.tell(self.name, f"received: {text}")
        if number is not None and number == self.last_order:
            self._last["heard"].set()

    def following(self, position: int) -> None:
        """Note that the log is followed."""
        del position
        self._started["following"].set()

    def read(self, entry: Entry | None) -> None:
        """Count an entry; print it if no notification brought it."""
        if entry is None:
            return
        key, text = message_of(entry.payload)
        number = order_number(text)
        self._read += number is not None
        if key not in self._heard:
            self._screen.tell(self.name, f"from the event log: {text}", Look.GOOD)
        if number is not None and number == self.last_order:
            self._last["read"].set()

    def _run(self, fill: Callable[[], None]) -> None:
        try:
            fill()
        except ListenerClosed:
            pass  # the demo ends
        except Error as error:
            self._failure = error
            self._screen.tell(self.name, f"ends: {error}", Look.BAD)
            for step in self._started.values():
                step.set()

    def _event(self, event: ListenerEvent, error: Exception | None) -> None:
        if isinstance(error, ListenerClosed):
            return
        if event is ListenerEvent.CONNECTION_ATTEMPT_FAILED:
            self._failed += 1
            if self._failed == 1:
                # The demo itself is the cause, so the remedy would mislead; the other attempts fail alike.
                cause = str(error).partition(" (remedy: ")[0]
                self._screen.tell(self.name, f"attempt failed: {cause}; it tries again", Look.BAD)
        elif error is None:
            after = f" after {count(self._failed, 'failed attempt')}" if self._failed else ""
            self._failed = 0
            self._screen.tell(self.name, f"{event.value} and listening{after}", Look.GOOD)
            self._started["connected"].set()
        else:
            self._screen.tell(self.name, f"{event.value}: {error}", Look.BAD)
