"""What is sent: by the shop, which sends numbered orders, and by the windows of the page."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable

from .._eventlog.names import LogNames
from .._sql import notify_statement
from ..backend import Backend
from ..connection import ListenerConnection
from ..errors import Error
from .behind import send
from .screen import Look, Screen

__all__ = ["STEP_TIMEOUT", "Post", "Shop", "message", "message_of", "order_number"]

STEP_TIMEOUT = 5.0
"""Seconds to connect, and for one statement; milliseconds are usual."""

_NUMBER = re.compile(r"Order (\d{1,9})\b")


def message(name: str, text: str, key: str | None = None) -> str:
    """Return a payload. Its key tells which notification and which entry are the same message."""
    # Without escapes, other listeners can read the text, and more of it fits. UTF-8 cannot encode half of a
    # surrogate pair, which becomes a question mark.
    values = {"key": key or secrets.token_hex(6), "name": name, "text": text}
    return json.dumps(values, ensure_ascii=False).encode(errors="replace").decode()


def message_of(payload: str) -> tuple[str, str]:
    """Return key and text of a message; *payload* itself twice if it holds none."""
    try:
        values = json.loads(payload)
        key, text = values["key"], values["text"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return payload, payload
    return (key, text) if isinstance(key, str) and isinstance(text, str) else (payload, payload)


def order_number(text: str) -> int | None:
    """Return the number of an order; None for any other text."""
    match = _NUMBER.match(text)
    return int(match[1]) if match else None


class Post:
    """Sends over a connection of its own for each message, past whatever keeps the listeners away."""

    def __init__(self, dsn: str, backend: str | Backend, channel: str, log: str | None) -> None:
        """Connect to nothing yet; *log* is the name of the event log (``None``: there is none)."""
        self.channel = channel
        self._dsn = dsn
        self._backend = backend
        self._log = None if log is None else LogNames(log)

    def send(self, payload: str) -> None:
        """Send *payload*; return when it is committed. Raises `ConnectionFailed` and other errors."""
        with self._connection() as connection:
            if self._log is None:
                connection.execute(notify_statement(self.channel, payload), STEP_TIMEOUT)
            else:
                send(connection, self._log, self.channel, payload)

    def execute(self, sql: str) -> None:
        """Run one statement."""
        with self._connection() as connection:
            connection.execute(sql, STEP_TIMEOUT)

    def _connection(self) -> ListenerConnection:
        return ListenerConnection(self._dsn, backend=self._backend, connect_timeout=STEP_TIMEOUT)


class Shop:
    """Sends orders. An order that cannot be sent is told on the screen."""

    def __init__(self, screen: Screen, post: Post) -> None:
        self.next_number = 1
        """The number of the order that is sent next."""
        self._screen = screen
        self._post = post

    def send(self, remark: str = "") -> None:
        """Send the next order; return when it is committed."""
        text = f"Order {self.next_number}{', ' if remark else ''}{remark}"
        self.next_number += 1
        self._screen.tell("sender", f"sends: {text}", Look.QUIET)
        self.attempt(lambda: self._post.send(message("the shop", text)))

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self.attempt(lambda: self._post.execute(sql))

    def attempt(self, step: Callable[[], None]) -> None:
        """Call *step*; tell its error on the screen."""
        try:
            step()
        except Error as error:
            self._screen.tell("server", f"refuses a statement of the demo: {error}", Look.BAD)
