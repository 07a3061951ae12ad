"""A browser's `EventSource`: it comes back by itself, with its last id, after the delay that it was told."""

from __future__ import annotations

import time

import gevent

from support.programs.event_source import Event, EventSource


class ReturningSource:
    """One stream after another, in a greenlet of its own."""

    def __init__(self, port: int, target: str) -> None:
        self.away: list[float] = []
        """Seconds from the end of each stream to the beginning of the next."""
        self._port = port
        self._target = target
        self._past: list[Event] = []
        self._source: EventSource | None = None
        self._last_event_id = ""
        self._greenlet = gevent.spawn(self._run)

    @property
    def events(self) -> list[Event]:
        return self._past + (self._source.parser.events if self._source else [])

    @property
    def open(self) -> bool:
        """Whether a stream has begun and not ended."""
        source = self._source
        return source is not None and source.parser.last_event_id != "" and source.ended_at is None

    def close(self) -> None:
        self._greenlet.kill()
        if self._source is not None:
            self._source.close()

    def _run(self) -> None:
        left_at: float | None = None
        retry = 1000
        while True:
            headers = {"Last-Event-ID": self._last_event_id} if self._last_event_id else {}
            source = self._source = EventSource(self._port, self._target, headers)
            # A worker that stops answers with a stream that ends at once, and has no id.
            source.wait(lambda it: it.parser.last_event_id or it.ended_at is not None, 120)
            if left_at is not None and source.parser.last_event_id:
                self.away.append(time.monotonic() - left_at)
                left_at = None
            source.wait_end(600)
            source.close()
            self._past += source.parser.events
            self._source = None
            self._last_event_id = source.parser.last_event_id or self._last_event_id
            retry = source.parser.retry or retry
            if left_at is None:
                left_at = source.ended_at
            gevent.sleep(retry / 1000)
