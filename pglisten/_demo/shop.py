"""The shop that sends numbered orders, in the demo's page and in its terminal alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from ..connection import ListenerConnection
from ..errors import Error
from .screen import Look, Screen

__all__ = ["Shop", "order_number", "order_text"]

STEP_TIMEOUT = 10.0
"""Seconds for one statement; milliseconds are usual."""

_NUMBER = re.compile(r"Order (\d{1,9})[.:]")


class Shop:
    """Sends orders, over a connection for each. An order that cannot be sent is told on the screen."""

    def __init__(self, screen: Screen, dsn: str, backend: str, channel: str) -> None:
        """Connect to nothing yet."""
        self.channel = channel
        self.next_number = 1
        """The number of the order that is sent next."""
        self._screen = screen
        self._dsn = dsn
        self._backend = backend

    def send(self, remark: str = "") -> None:
        """Send the next order; return when it is committed."""
        text = f"Order {self.next_number}{': ' if remark else ''}{remark}."
        self.next_number += 1
        self._screen.tell("sender", f"NOTIFY {self.channel}: {text}", Look.QUIET)
        payload = json.dumps({"name": "the shop", "text": text})
        self._run(lambda connection: connection.notify(self.channel, payload, STEP_TIMEOUT))

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self._run(lambda connection: connection.execute(sql, STEP_TIMEOUT))

    def _run(self, step: Callable[[ListenerConnection], None]) -> None:
        try:
            with ListenerConnection(self._dsn, backend=self._backend) as connection:
                step(connection)
        except Error as error:
            self._screen.tell("server", f"refuses a statement of the demo: {error}", Look.BAD)


def order_text(payload: str) -> str:
    """Return the text of a message in *payload*, or *payload* itself if it holds none."""
    try:
        text = json.loads(payload)["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return payload
    return text if isinstance(text, str) else payload


def order_number(text: str) -> int | None:
    """Return the number of an order; None for any other text."""
    match = _NUMBER.match(text)
    return int(match[1]) if match else None
