"""A subscription as the bytes of a Server-Sent Events body.

The format is that of the HTML standard, section 9.2: lines of ``field: value``, and an empty one after each
event. One space after the colon belongs to the format, so a value's own leading space is safe behind it. A
value ends with its line: what holds line breaks is several ``data`` lines, and no other field may hold any.
"""

from __future__ import annotations

import re
import secrets
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from .. import _options
from .._broadcast.subscription import queued
from ..backend import Notification
from ..broadcast import Subscription
from ..errors import (
    ChannelNotOpen,
    ConfigurationError,
    Error,
    ListenerClosed,
    OperationTimeout,
    SubscriptionOverflow,
)
from .registry import streams
from .sender import Sender

__all__ = ["GAP", "Encode", "EventFormat", "EventName", "EventStream"]

EventName: TypeAlias = "str | Callable[[Notification], str]"
Encode: TypeAlias = Callable[[Notification], str]

GAP = "gap"
"""The name of the event that says: something may have been missed here."""

BROWSERS_OWN = frozenset({"open", "error"})
"""What an `EventSource` fires itself (HTML standard, 9.2.2): a page would take our events for those."""

HEARTBEAT = b":\n"
"""A comment: no event for the client, and a write that fails once the client is gone. No empty line follows,
because clients that are no browsers make an event of each."""

CHUNK = 65536
"""Bytes after which a chunk takes no more events, though more are queued."""

LINE_BREAK = re.compile("\r\n|\r|\n")
"""What ends a line of an event stream. `str.splitlines` knows more than these."""


@dataclass(frozen=True)
class EventFormat:
    """How notifications become events. Raises `ConfigurationError` for what cannot work."""

    heartbeat: float
    retry: float | None
    event: EventName | None
    encode: Encode | None
    gap: str
    send_timeout: float

    def __post_init__(self) -> None:
        _options.seconds("heartbeat", self.heartbeat)
        _options.seconds("send_timeout", self.send_timeout)
        _options.seconds("retry", self.retry, none_means="the browser's own choice")
        if self.event is not None and not callable(self.event):
            _check_name("event", self.event)
        if self.encode is not None and not callable(self.encode):
            raise ConfigurationError(
                f"encode is a function of a notification, not {self.encode!r}", option="encode"
            )
        _check_name("gap", self.gap)
        if not self.gap:
            raise ConfigurationError(
                "gap is the name of an event, and has at least one character", option="gap"
            )
        if self.event == self.gap:
            raise ConfigurationError(f"event and gap are both {self.gap!r}: nobody could tell them apart")

    def refusal(self, channels: Iterable[str]) -> str | None:
        """Return why *channels* cannot name events, ``None`` if they can."""
        if self.event is not None:
            return None
        taken = ((channel, self._taken_by(_in_one_line(channel))) for channel in channels)
        return next((f"channel {channel!r} has the name of {what}" for channel, what in taken if what), None)

    def preamble(self, identity: str) -> str:
        """Return what comes first, except for a client that was here before.

        The empty line has a browser remember its ``id``, and send it when it comes back before its first
        event. Browsers skip the byte order mark, which is part of the format. Parsers that would make an
        event of an ``id`` alone do not skip it: they find a field that they do not know, and ignore it.
        """
        return f"\ufeffid: {identity}\n\n{self.retry_field()}"

    def retry_field(self) -> str:
        """Return the time after which a client connects again. It counts at once, without an empty line."""
        return "" if self.retry is None else f"retry: {max(1, round(self.retry * 1000))}\n"

    def gap_event(self, identity: str) -> str:
        """Return the event that says: something may have been missed here."""
        return f"id: {identity}\nevent: {self.gap}\ndata:\n\n"

    def event_for(self, identity: str, notification: Notification) -> str:
        """Return the event for *notification*."""
        encode = self.encode
        text = notification.payload if encode is None else encode(notification)
        if not isinstance(text, str):
            raise TypeError(f"encode is to return an event's data as str, not {type(text).__name__}")
        if "\n" in text or "\r" in text:
            text = "\ndata: ".join(LINE_BREAK.split(text))
        name = self._name(notification)
        field = f"event: {name}\n" if name else ""
        return f"id: {identity}\n{field}data: {text}\n\n"

    def _name(self, notification: Notification) -> str:
        name = notification.channel if self.event is None else self.event
        if not isinstance(name, str):
            name = name(notification)
            if not isinstance(name, str):
                raise TypeError(f"event is to return an event's name as str, not {type(name).__name__}")
        name = _in_one_line(name)
        if (what := self._taken_by(name)) is not None:
            raise ConfigurationError(
                f"a notification's event would have the name of {what}, {name!r}: name it with event=, or "
                "gap events with gap="
            )
        return name

    def _taken_by(self, name: str) -> str | None:
        """Return which other events have that name."""
        if name == self.gap:
            return "gap events"
        return "a browser's own events" if name in BROWSERS_OWN else None


class EventStream:
    """The chunks of a body. The server iterates it, and closes it.

    It ends when its subscription does. The subscription is released when it is closed, when it ends, when
    the greenlet that waits for a chunk is killed, or when nobody refers to it any more. A greenlet that takes
    longer than ``send_timeout`` from one chunk to the next gets a ``BrokenPipeError``.
    """

    def __init__(
        self,
        subscription: Subscription,
        form: EventFormat,
        *,
        again: bool,
        siblings: weakref.WeakSet[EventStream] | None = None,
    ) -> None:
        self._subscription = subscription
        self._form = form
        self._prefix = secrets.token_hex(4)
        self._number = 0
        identity = self._identity()
        self._first = form.retry_field() + form.gap_event(identity) if again else form.preamble(identity)
        self._over = False
        """Whether nothing more comes."""
        self._sender = Sender(form.send_timeout)
        self._siblings = siblings
        if siblings is not None:
            siblings.add(self)
        streams.add(self)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        self._sender.returns()
        try:
            chunk = self._chunk()
        except BaseException:
            self._finish()
            self._sender.leaves()
            raise
        self._sender.sends()
        return chunk

    def close(self) -> None:
        """Release the subscription. Idempotent; never waits.

        A greenlet that still sends a chunk goes on with that, within its time limit.
        """
        self._finish()
        self._sender.leaves()
        streams.discard(self)
        if self._siblings is not None:
            self._siblings.discard(self)

    def end(self) -> None:
        """Let it end once what is queued is sent. Never waits."""
        self._subscription.close()

    def abort(self) -> None:
        """End the send of the greenlet that is at it, if one is. Never waits."""
        self._sender.abort()

    def __repr__(self) -> str:
        return f"<EventStream {'over' if self._over else 'open'} of {self._subscription!r}>"

    def _chunk(self) -> bytes:
        """Return what is queued; wait for it, a heartbeat's time at most."""
        if self._over:
            raise StopIteration
        if self._first:
            first, self._first = self._first, ""
            return first.encode()
        began = time.monotonic()
        try:
            item = self._subscription.get(self._form.heartbeat)
        except OperationTimeout:
            if time.monotonic() - began < self._form.heartbeat:
                raise  # Some other, out of on_gap: to call that again at once would never end.
            return HEARTBEAT
        except (ListenerClosed, SubscriptionOverflow, ChannelNotOpen) as error:
            if not self._subscription.closed:
                raise  # Thrown in from outside, or out of on_gap.
            if isinstance(error, ListenerClosed):
                raise StopIteration from None
            self._finish()
            return self._form.gap_event(self._identity()).encode()
        return self._with_what_is_queued(self._event(item))

    def _with_what_is_queued(self, first: bytes) -> bytes:
        """Return *first* and what follows without waiting: a write costs more than an event does."""
        events, size = [first], len(first)
        # Where nothing is queued, get() would let others run, and this chunk would wait meanwhile.
        while size < CHUNK and queued(self._subscription):
            try:
                item = self._subscription.get(0)
            except Error:
                break  # Another took it, or on_gap raised: the next call meets that again.
            events.append(self._event(item))
            size += len(events[-1])
        return b"".join(events)

    def _event(self, item: Notification | None) -> bytes:
        identity, form = self._identity(), self._form
        return (form.gap_event(identity) if item is None else form.event_for(identity, item)).encode()

    def _identity(self) -> str:
        """Return an event's id: one of its own, and nothing that could be resumed from."""
        self._number += 1
        return f"{self._prefix}-{self._number}"

    def _finish(self) -> None:
        self._over = True
        self._subscription.close()


def _in_one_line(name: str) -> str:
    """Return *name* without line breaks, as it names an event."""
    if "\n" in name or "\r" in name:
        name = name.replace("\r", "").replace("\n", "")
    return name


def _check_name(option: str, name: str) -> None:
    if not isinstance(name, str) or "\n" in name or "\r" in name:
        raise ConfigurationError(f"{option} is a name without line breaks, not {name!r}", option=option)
    if name in BROWSERS_OWN:
        raise ConfigurationError(
            f"{option} is {name!r}, the name of a browser's own events: choose another", option=option
        )
