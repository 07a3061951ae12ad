"""The sender of a chaos run: its own connection, past the proxies, one transaction after another.

The sender survives every crash of the server. Only committed notifications count. If the answer to
a COMMIT is lost, the outcome is unknown, and the notification may arrive or not.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
from gevent.event import Event

from support.chaos.history import SENDER, History, Sending, Settled
from support.chaos.servers import Servers
from support.servers.control import connect, connection_errors

PAUSE = 0.02
"""Seconds between attempts to connect to a server that is down."""


class Sender:
    """Commits numbered notifications. The threads of gevent's pool do the waiting."""

    def __init__(
        self, history: History, servers: Servers, channels: Sequence[str], rng: random.Random
    ) -> None:
        self.sent = 0
        self.committed = 0
        self._history = history
        self._servers = servers
        self._channels = channels
        self._rng = rng
        self._connection: Any = None
        self._stopping = Event()

    def run(self) -> None:
        """Send at random until `stop` is called."""
        while not self._stopping.is_set():
            # Mostly one or a few, at times a burst that fills every buffer.
            count = self._rng.choice((1, 1, 1, 2, 5, 100)) if self._rng.random() < 0.3 else 1
            self.commit([self._rng.choice(self._channels) for _ in range(count)])
            # This waits for nothing: it spreads the traffic over the faults.
            gevent.sleep(self._rng.expovariate(1 / 0.003))

    def stop(self) -> None:
        self._stopping.set()

    def commit(self, channels: Sequence[str]) -> list[int] | None:
        """Send one notification to each of *channels* in one transaction.

        Return their numbers, or ``None`` if the outcome is unknown. Wait for a server that takes writes.
        """
        self._connect()
        numbers = list(range(self.sent, self.sent + len(channels)))
        self.sent += len(channels)
        sendings = [
            Sending(SENDER, number, channel, self._payload(number))
            for number, channel in zip(numbers, channels, strict=True)
        ]
        self._history.note(*sendings)
        committed = gevent.get_hub().threadpool.apply(self._execute, (sendings,))
        self._history.note(Settled(SENDER, numbers[0], numbers[-1], committed))
        if not committed:
            self.close()
            return None
        self.committed += len(numbers)
        return numbers

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            gevent.get_hub().threadpool.apply(_close, (connection,))

    def _payload(self, number: int) -> str:
        # Long ones are cut by every buffer on the way, and characters of several bytes with them.
        length = self._rng.choice((0, 10, 10, 10, 100, 2000))
        return f"{number} " + self._rng.choice("xé漢") * length

    def _connect(self) -> None:
        while self._connection is None:
            keywords = self._servers.primary.keywords
            self._connection = gevent.get_hub().threadpool.apply(_connection, (keywords,))
            if self._connection is None:
                gevent.sleep(PAUSE)

    def _execute(self, sendings: Sequence[Sending]) -> bool:
        # One statement is one transaction, and VALUES keeps its order.
        rows = ", ".join(f"('{sending.channel}', '{sending.payload}')" for sending in sendings)
        try:
            with contextlib.closing(self._connection.cursor()) as cursor:
                cursor.execute(f"SELECT pg_notify(c, p) FROM (VALUES {rows}) AS v(c, p)")
        except connection_errors():
            return False
        return True


def _connection(keywords: Mapping[str, object]) -> Any:
    """Connect in a thread of the pool, where an error that is raised would be printed."""
    try:
        return connect(dict(keywords))
    except connection_errors():
        return None


def _close(connection: Any) -> None:
    with contextlib.suppress(*connection_errors()):
        connection.close()
