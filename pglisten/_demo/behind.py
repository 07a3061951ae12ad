"""The code behind the demo. The page shows the text of these functions, and they are what runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Protocol

from .._eventlog.names import LogNames
from .._eventlog.writing import append_sql
from .._sql import notify_statement
from ..broadcast import Broadcaster
from ..connection import ListenerConnection
from ..eventlog import Entry, EventLog

__all__ = ["Book", "follow", "hear", "send", "shown"]


class Book(Protocol):
    """The two ledgers of a window, or of a backend in the terminal."""

    def listening(self) -> None:
        """Take that the server has acknowledged the channel."""

    def gap(self) -> None:
        """Take that notifications may be missing here."""

    def heard(self, payload: str) -> None:
        """Take a notification."""

    def following(self, position: int) -> None:
        """Take that entries after *position* will come."""

    def read(self, entry: Entry | None) -> None:
        """Take an entry of the log."""


def hear(broadcaster: Broadcaster, channel: str, book: Book) -> None:
    with broadcaster.subscribe(channel) as subscription:
        book.listening()
        for notification in subscription:
            if notification is None:  # the connection was lost and is back
                book.gap()
            else:
                book.heard(notification.payload)


def follow(log: EventLog, channel: str, after: int | None, book: Book) -> None:
    with log.follow(channel, after=after) as follower:
        book.following(follower.position)
        for entry in follower:  # after a loss it reads on where it was
            book.read(entry)


def send(connection: ListenerConnection, log: LogNames, channel: str, payload: str) -> None:
    append, notify = append_sql(log, channel, payload), notify_statement(channel, payload)
    connection.execute(f"{append};{notify}", timeout=5)  # one transaction: both or neither


def shown() -> list[dict[str, str]]:
    """Return the text of these functions, with a caption for each."""
    captions: dict[Callable[..., None], str] = {
        hear: "The left ledger: notifications alone",
        follow: "The right ledger: the event log",
        send: "The sender: a transaction that does both",
    }
    return [
        {"caption": caption, "code": inspect.getsource(function).rstrip()}
        for function, caption in captions.items()
    ]
