"""Appends the messages of one process to the log, in order.

Greenlets that emit queue their message and wait for its commit. One greenlet appends what is queued in one
transaction, so while a commit is under way, the messages of all others gather for the next one. After a loss
it appends the same messages again, with the same numbers: readers drop those that they have had.
"""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from typing import Any

import gevent
from gevent.hub import Hub
from greenlet import getcurrent

from .._completion import Completion
from .._deadline import Deadline
from .._eventlog.reader import PASSING
from .._eventlog.writing import check_entry
from .._greenlet import Greenlet, spawn
from .._listener.backoff import Backoff
from .._may_wait import interrupts
from .._ownership import Owner
from ..broadcast import outage_of
from ..errors import (
    ConnectionLost,
    Error,
    ListenerClosed,
    NotConnected,
    OperationTimeout,
    ServerError,
    without_frames,
)
from ..eventlog import EventLog, append_all, broadcaster_of
from .envelope import wrap

__all__ = ["Outbox"]

logger = logging.getLogger("pglisten.socketio")

BATCH, BATCH_SIZE = 500, 1 << 20
"""Messages, and characters, of one transaction, unless the first message alone is longer. The connection
receives nothing meanwhile."""

LIMIT = 30.0
"""Seconds after which an append that is not answered means that the connection is lost."""

LONGEST = 1 << 62
"""A number that is longer than those that are used, to check the size of a message."""

RETRY, LONGEST_RETRY = 0.05, 1.0
"""Seconds before an append that failed is tried again: the first time, and at most. The broadcaster may not
have noticed the loss yet."""

LOCK_LIMIT, LONGEST_LOCK_LIMIT = 2, 16
"""Seconds that an append waits for a lock: the connection receives nothing meanwhile. Each attempt that they
end doubles them."""

LOCK_TIMEOUT = "55P03"

READ_ONLY = "25006"
"""The server is a standby, as it is for a moment in a failover, or its disk is full."""


class _Message:
    """A message on its way, and its sender's wait."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.number = 0
        self.given_up = False
        """Whether its sender has left: it was told that the message is not sent, or was killed."""
        self.expires: float | None = None
        """When a message for which no sender waits is given up; of the monotonic clock."""
        self.sent = Completion()

    @property
    def wanted(self) -> bool:
        """Whether it is still to be sent."""
        return not self.given_up and (self.expires is None or time.monotonic() < self.expires)

    def give_up(self) -> None:
        """Note that its sender has left. It takes no more memory then."""
        self.given_up = True
        self.text = ""


class Outbox:
    """Append messages to *channel* of *log*, as *sender*. A call waits *timeout* seconds for the commit."""

    def __init__(self, log: EventLog, channel: str, sender: str, timeout: float | None) -> None:
        self.owner = Owner()
        self._log = log
        self._channel = channel
        self._sender = sender
        self._timeout = timeout
        self._queue: deque[_Message] = deque()
        self._number = 0
        self._refusal: ServerError | None = None
        """Why the server refuses messages, for a reason that may pass: its disk is full, for instance."""
        self._backoff = Backoff(RETRY, LONGEST_RETRY, 0.1, random.random)
        self._lock_limit = LOCK_LIMIT
        self._greenlet: Greenlet | None = None

    def send(self, text: str, deadline: Deadline) -> None:
        """Return when *text* is committed. Where nothing may wait, return at once, and log a failure.

        Raises `OperationTimeout` at *deadline*, for which the caller has *timeout* seconds; `ServerError` or
        `ListenerClosed`.
        """
        self.owner.check_thread()
        check_entry(self._channel, wrap(self._sender, LONGEST, text))
        message = _Message(text)
        self._discard()
        self._queue.append(message)
        if self._greenlet is None:
            self._greenlet = spawn("pglisten-socketio-sender", self._run)
            # If it is killed from outside (gevent.killall): no caller may wait forever.
            self._greenlet.rawlink(self._ended)
        if isinstance(getcurrent(), Hub) or interrupts():
            message.sent = _Logged()
            if self._timeout is not None:
                message.expires = time.monotonic() + self._timeout
            return
        try:
            message.sent.wait(deadline.remaining(), "emit", outage=self._why, stated=self._timeout)
        finally:
            message.give_up()
            self._discard()

    def _why(self) -> Exception | None:
        """Return why messages wait, if that is known."""
        return outage_of(broadcaster_of(self._log)) or self._refusal

    def _discard(self) -> None:
        """Remove what is no longer wanted, as far as it is first, or an outage would fill the memory.

        All have the same time, so the first is the one that is given up first. One whose sender was killed
        may be later: it is small.
        """
        while self._queue and not self._queue[0].wanted:
            self._queue.popleft().sent.resolve(_not_begun())

    def _run(self) -> None:
        while messages := self._take():
            self._append(messages)
        # No other greenlet has run since the queue was empty. The next message starts another one.
        self._greenlet = None

    def _ended(self, greenlet: Any) -> None:
        """Fail what is queued if the greenlet was killed."""
        if self.owner.forked or self._greenlet is not greenlet:
            return
        self._greenlet = None
        left, self._queue = list(self._queue), deque()
        _resolve(left, ListenerClosed("the greenlet that sends was killed"))

    def _take(self) -> list[_Message]:
        taken: list[_Message] = []
        size = 0
        while self._queue and len(taken) < BATCH:
            size += len(self._queue[0].text)
            if taken and size > BATCH_SIZE:
                break
            message = self._queue.popleft()
            if message.wanted:
                self._number += 1
                message.number = self._number
                taken.append(message)
            else:
                message.sent.resolve(_not_begun())
        return taken

    def _append(self, messages: list[_Message]) -> None:
        """Append *messages* in one transaction, again after a loss, while a sender waits."""
        ended: Exception | None = ListenerClosed("the greenlet that sends was killed")
        try:
            while wanted := [message for message in messages if message.wanted]:
                try:
                    ended = self._append_once(wanted)
                except _Again:
                    continue
                if isinstance(ended, ServerError) and len(wanted) > 1:
                    # The server may refuse one of them only.
                    for message in wanted:
                        self._append([message])
                return
            ended = OperationTimeout("emit: not done in time")
        finally:
            if not self.owner.forked:
                _resolve(messages, ended)

    def _append_once(self, messages: list[_Message]) -> Exception | None:
        """Return why the server, or this process, refuses *messages*; ``None`` if they are committed."""
        payloads = [wrap(self._sender, message.number, message.text) for message in messages]
        try:
            append_all(self._log, self._channel, payloads, LIMIT, self._lock_limit)
        except (NotConnected, ConnectionLost):
            self._refusal = None
            self._pause()
            try:
                broadcaster_of(self._log).wait_connected()
            except Error as error:
                return error
            raise _Again from None
        except ServerError as error:
            if error.sqlstate == LOCK_TIMEOUT:
                # It has lost its place in the queue for the lock, and must not each time.
                self._lock_limit = min(2 * self._lock_limit, LONGEST_LOCK_LIMIT)
            if error.sqlstate[:2] in PASSING or error.sqlstate == READ_ONLY:
                self._refusal = without_frames(error)
                self._pause()
                raise _Again from None
            return error
        except Error as error:
            return error
        self._refusal, self._lock_limit = None, LOCK_LIMIT
        self._backoff.connected(0)
        return None

    def _pause(self) -> None:
        gevent.sleep(self._backoff.after_failure())
        if self.owner.forked:
            raise gevent.GreenletExit


class _Again(Exception):
    """The append may succeed if it is tried again."""


class _Logged(Completion):
    """The end of a message whose sender could not wait: a failure is logged."""

    def resolve(self, error: Exception | None = None) -> None:
        if error is not None and not self.done:
            logger.error("a message was not sent: %s", error)
        super().resolve(error)


def _not_begun() -> OperationTimeout:
    return OperationTimeout("emit: not begun in time")


def _resolve(messages: list[_Message], error: Exception | None) -> None:
    for message in messages:
        message.sent.resolve(error)
