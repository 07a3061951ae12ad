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

BROWSER_EVENTS = frozenset({"open", "error"})
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

    def name_conflict(self, channels: Iterable[str]) -> str | None:
        """Return why *channels* cannot name events, ``None`` if they can."""
        if self.event is not None:
            return None
        names = ((channel, self._reserved_for(_without_line_breaks(channel))) for channel in channels)
        return next((f"channel {channel!r} has the name of {what}" for channel, what in names if what), None)

    def preamble(self, event_id: str) -> str:
        """Return what comes first, except for a client that was here before.

        The empty line has a browser remember its ``id``, and send it when it comes back before its first
        event. Browsers skip the byte order mark, which is part of the format. Parsers that would make an
        event of an ``id`` alone do not skip it: they find a field that they do not know, and ignore it.
        """
        return f"\ufeffid: {event_id}\n\n{self.retry_field()}"

    def retry_field(self) -> str:
        """Return the time after which a client connects again. It counts at once, without an empty line."""
        return "" if self.retry is None else f"retry: {max(1, round(self.retry * 1000))}\n"

    def gap_event(self, event_id: str) -> str:
        """Return the event that says: something may have been missed here."""
        return f"id: {event_id}\nevent: {self.gap}\ndata:\n\n"

    def event_for(self, event_id: str, notification: Notification) -> str:
        """Return the event for *notification*."""
        encode = self.encode
        text = notification.payload if encode is None else encode(notification)
        if not isinstance(text, str):
            raise TypeError(f"encode is to return an event's data as str, not {type(text).__name__}")
        if "\n" in text or "\r" in text:
            text = "\ndata: ".join(LINE_BREAK.split(text))
        name = self._name(notification)
        field = f"event: {name}\n" if name else ""
        return f"id: {event_id}\n{field}data: {text}\n\n"

    def _name(self, notification: Notification) -> str:
        name = notification.channel if self.event is None else self.event
        if not isinstance(name, str):
            name = name(notification)
            if not isinstance(name, str):
                raise TypeError(f"event is to return an event's name as str, not {type(name).__name__}")
        name = _without_line_breaks(name)
        if (what := self._reserved_for(name)) is not None:
            raise ConfigurationError(
                f"a notification's event would have the name of {what}, {name!r}: name it with event=, or "
                "gap events with gap="
            )
        return name

    def _reserved_for(self, name: str) -> str | None:
        """Return which other events have that name."""
        if name == self.gap:
            return "gap events"
        return "a browser's own events" if name in BROWSER_EVENTS else None


class EventStream:
    """The chunks of a body. The server iterates it, and closes it.

    It ends when its subscription does. The subscription is released when it is closed, when it ends, when
    the greenlet that waits for a chunk is killed, or when nobody refers to it any more. A greenlet that takes
    longer than ``send_timeout`` from one chunk to the next gets a ``BrokenPipeError``.
    """

    def __init__(
        self,
        subscription: Subscription,
        event_format: EventFormat,
        *,
        reconnected: bool,
        open_streams: weakref.WeakSet[EventStream] | None = None,
    ) -> None:
        self._subscription = subscription
        self._format = event_format
        self._prefix = secrets.token_hex(4)
        self._number = 0
        event_id = self._next_id()
        if reconnected:
            self._preamble = event_format.retry_field() + event_format.gap_event(event_id)
        else:
            self._preamble = event_format.preamble(event_id)
        self._ended = False
        """Whether nothing more comes."""
        self._sender = Sender(event_format.send_timeout)
        self._open_streams = open_streams
        if open_streams is not None:
            open_streams.add(self)
        streams.add(self)

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        self._sender.attach()
        try:
            chunk = self._chunk()
        except BaseException:
            self._finish()
            self._sender.detach()
            raise
        self._sender.start_timer()
        return chunk

    def close(self) -> None:
        """Release the subscription. Idempotent; never waits.

        A greenlet that still sends a chunk goes on with that, within its time limit.
        """
        self._finish()
        self._sender.detach()
        streams.remove(self)
        if self._open_streams is not None:
            self._open_streams.discard(self)

    def end(self) -> None:
        """Let it end once what is queued is sent. Never waits."""
        self._subscription.close()

    def abort(self) -> None:
        """End the send of the greenlet that is at it, if one is. Never waits."""
        self._sender.abort()

    def __repr__(self) -> str:
        return f"<EventStream {'over' if self._ended else 'open'} of {self._subscription!r}>"

    def _chunk(self) -> bytes:
        """Return what is queued; wait for it, a heartbeat's time at most."""
        if self._ended:
            raise StopIteration
        if self._preamble:
            preamble, self._preamble = self._preamble, ""
            return preamble.encode()
        began = time.monotonic()
        try:
            item = self._subscription.get(self._format.heartbeat)
        except OperationTimeout:
            if time.monotonic() - began < self._format.heartbeat:
                raise  # Some other, out of on_gap: to call that again at once would never end.
            return HEARTBEAT
        except (ListenerClosed, SubscriptionOverflow, ChannelNotOpen) as error:
            if not self._subscription.closed:
                raise  # Thrown in from outside, or out of on_gap.
            if isinstance(error, ListenerClosed):
                raise StopIteration from None
            self._finish()
            return self._format.gap_event(self._next_id()).encode()
        return self._with_queued(self._event(item))

    def _with_queued(self, first: bytes) -> bytes:
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
        event_id = self._next_id()
        if item is None:
            return self._format.gap_event(event_id).encode()
        return self._format.event_for(event_id, item).encode()

    def _next_id(self) -> str:
        """Return an event's id: one of its own, and nothing that could be resumed from."""
        self._number += 1
        return f"{self._prefix}-{self._number}"

    def _finish(self) -> None:
        self._ended = True
        self._subscription.close()


def _without_line_breaks(name: str) -> str:
    """Return *name* without line breaks, as it names an event."""
    if "\n" in name or "\r" in name:
        name = name.replace("\r", "").replace("\n", "")
    return name


def _check_name(option: str, name: str) -> None:
    if not isinstance(name, str) or "\n" in name or "\r" in name:
        raise ConfigurationError(f"{option} is a name without line breaks, not {name!r}", option=option)
    if name in BROWSER_EVENTS:
        raise ConfigurationError(
            f"{option} is {name!r}, the name of a browser's own events: choose another", option=option
        )
