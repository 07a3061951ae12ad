"""The listener of one backend in the demo, and the count of what it received."""

from __future__ import annotations

from gevent.event import Event

from .._greenlet import spawn
from ..backend import Notification
from ..errors import ListenerClosed
from ..listener import Listener, ListenerEvent
from .screen import Look, Screen
from .shop import order_number, order_text

__all__ = ["Tally", "Watcher"]

FIRST_RETRY = 0.25
"""Seconds. Short, so that several attempts fail while the server is away."""

LONGEST_RETRY = 0.5
"""Seconds; short for the same reason. Programs should use the defaults of both."""

LISTEN_TIMEOUT = 10.0
"""Seconds for the first LISTEN; the server has just accepted another connection."""

CALLBACK_GRACE = 0.1
"""Seconds for the last event to be printed. The reader may have gone, and the demo ends within a second."""


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


class Watcher:
    """Listens to *channel* with one backend and prints what it receives, until the last order."""

    def __init__(self, screen: Screen, dsn: str, name: str, channel: str) -> None:
        """Connect and listen; return when the server has acknowledged LISTEN."""
        self.name = name
        self.tally = Tally()
        self._screen = screen
        self._connected = Event()
        self.listener = Listener(
            dsn,
            backend=name,
            min_reconnect_interval=FIRST_RETRY,
            max_reconnect_interval=LONGEST_RETRY,
            event_callback=self._event,
        )
        try:
            self.listener.listen(channel, LISTEN_TIMEOUT)
            # Wait until the event's greenlet has printed its line: the first order must come after it.
            self._connected.wait()
        except BaseException:
            # No caller can close it yet.
            self.listener.close()
            raise
        self.last_order: int | None = None
        """The number of the last order, once it is known."""
        self._consumer = spawn(f"demo-{name}", self._consume)

    def wait_for_last(self, timeout: float) -> None:
        """Wait until the last order has arrived, *timeout* seconds at most."""
        self._consumer.join(timeout)

    def close(self) -> None:
        """Close the listener, which ends the consumer's loop."""
        self.listener.close(CALLBACK_GRACE)
        # Not joined: it may wait for a reader of standard output that has gone.
        self._consumer.kill()

    def summary(self) -> str:
        """Return the counts in one line."""
        tally, stats = self.tally, self.listener.stats()
        missed = f"{tally.missed} missed"
        if tally.unannounced:
            missed += f" ({tally.unannounced} WITHOUT a gap marker: please report it)"
        elif tally.missed:
            missed += " (gap marker)"
        failed = _count(stats.failed_attempts, "attempt")
        back = _count(stats.reconnects, "reconnection")
        return f"{tally.received} received, {missed}, {failed} failed, {back}"

    def _consume(self) -> None:
        for item in self.listener:
            if item is None:
                self.tally.gap()
                self._screen.tell(
                    self.name, "None, the gap marker: some may have been missed, so reload", Look.GAP
                )
            elif self._is_last(item):
                return

    def _is_last(self, item: Notification) -> bool:
        text = order_text(item.payload)
        number = order_number(text)
        # Other programs may send to the channel, if the server is the user's own.
        if number is not None:
            self.tally.notification(number)
        self._screen.tell(self.name, f"received: {text}")
        return number is not None and number == self.last_order

    def _event(self, event: ListenerEvent, error: Exception | None) -> None:
        if isinstance(error, ListenerClosed):
            return
        if error is None:
            self._screen.tell(self.name, f"{event.value} and listening", Look.GOOD)
            self._connected.set()
        else:
            what = "attempt failed" if event is ListenerEvent.CONNECTION_ATTEMPT_FAILED else event.value
            self._screen.tell(self.name, f"{what}: {error}", Look.BAD)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
