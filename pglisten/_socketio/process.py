"""What a manager has in each process: an id, its messages on their way, and whether it reads the log."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import Hub
from greenlet import getcurrent

from .._completion import Completion
from .._deadline import Deadline
from .._may_wait import interrupts
from .._ownership import Owner
from ..broadcast import outage_of
from ..errors import Error, ListenerClosed
from ..eventlog import EventLog, broadcaster_of
from .envelope import Inbox
from .outbox import Outbox

__all__ = ["Process"]

logger = logging.getLogger("pglisten.socketio")

RETRY = 1.0
"""Seconds before a log that cannot be read, or does not exist, is looked for again."""


class Process:
    """Keep what belongs to one process, and to the thread in which the manager was made."""

    def __init__(self, log: EventLog, channel: str, timeout: float | None) -> None:
        self._log = log
        self._timeout = timeout
        self.owner = Owner()
        self.host_id = uuid.uuid4().hex
        self.outbox = Outbox(log, channel, self.host_id, timeout)
        self.inbox = Inbox(self.host_id)
        self.rooms: dict[str, Any] = {}
        """The clients, as python-socketio keeps them."""
        self.started = False
        self.reading = Completion()
        """Resolved when each message that is sent from now on will arrive, or none will."""
        self.refusal: Error | None = None
        """Why the log cannot be read, if the server says so."""
        self.ended = Event()
        """Set when no more messages come."""

    def end(self) -> None:
        """Note that no more messages come."""
        if self.owner.forked:
            # The copies of greenlets that wait for this would go on in the child.
            return
        self.ended.set()
        self.reading.resolve(ListenerClosed("messages are no longer read"))

    def send(self, text: str, *, answered: bool) -> None:
        """Return when *text* is committed; see `Outbox.send`.

        If it will be *answered*, it is sent when this process reads the log: the answer would be missed.
        """
        self.owner.check_thread()
        deadline = Deadline(self._timeout)
        if answered and not (isinstance(getcurrent(), Hub) or interrupts()):
            self.reading.wait(self._timeout, "emit", outage=self._why)
        self.outbox.send(text, deadline)

    def _why(self) -> Exception | None:
        return outage_of(broadcaster_of(self._log)) or self.refusal

    def pause_after(self, error: Error) -> None:
        """Wait before the log is read again. Logs *error*, unless it was the last one too."""
        if str(self.refusal) != str(error):
            logger.error("messages cannot be read: %s", error)
        self.refusal = error
        gevent.sleep(RETRY)
        if self.owner.forked:
            raise gevent.GreenletExit
