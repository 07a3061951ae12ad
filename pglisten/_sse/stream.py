"""A subscription as the bytes of a Server-Sent Events body.

The HTML standard defines the format in section 9.2: lines of ``field: value``, and an empty line after each
event. The format includes one space after the colon, which protects a leading space of the value. A value
ends with its line. Data with line breaks becomes several ``data`` lines; other fields hold no line breaks.
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
"""The name of the event at a gap, where notifications may be missing."""

BROWSER_EVENTS = frozenset({"open", "error"})
"""Events that an `EventSource` fires itself (HTML standard, 9.2.2): a page could not tell ours from them."""

HEARTBEAT = b":\n"
"""A comment: it is no event for the client, and its write fails once the client is gone.

No empty line follows, because some clients other than browsers make an event of each empty line.
"""

CHUNK = 65536
"""Size in bytes from which a chunk takes no more events, even if more are queued."""

LINE_BREAK = re.compile("\r\n|\r|\n")
"""The line breaks of an event stream. `str.splitlines` splits at more characters than these."""


@dataclass(frozen=True)
class EventFormat:
    """How notifications become events. Raises `ConfigurationError` for an option that cannot work."""

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
                "gap is the name of an event: it has at least one character", option="gap"
            )
        if self.event == self.gap:
            raise ConfigurationError(
                f"event and gap are both {self.gap!r}: a page could not tell a notification from a gap"
            )

    def name_conflict(self, channels: Iterable[str]) -> str | None:
        """Return why *channels* cannot be names of events; ``None`` if they can."""
        if self.event is not None:
            return None
        names = ((channel, self._reserved_for(_without_line_breaks(channel))) for channel in channels)
        return next((f"channel {channel!r} has the name of {what}" for channel, what in names if what), None)

    def preamble(self, event_id: str) -> str:
        """Return the beginning of a stream for a client that connects for the first time.

        The empty line makes a browser remember the ``id``. The browser sends it when it reconnects, even
        before its first event. Browsers skip the byte order mark, as the standard demands. Some parsers would
        make an event of an ``id`` alone; they do not skip the mark, find an unknown field, and ignore it.
        """
        return f"\ufeffid: {event_id}\n\n{self.retry_field()}"

    def retry_field(self) -> str:
        """Return the field with the reconnect delay. It takes effect without an empty line."""
        return "" if self.retry is None else f"retry: {max(1, round(self.retry * 1000))}\n"

    def gap_event(self, event_id: str) -> str:
        """Return the event for a gap, where notifications may be missing."""
        return f"id: {event_id}\nevent: {self.gap}\ndata:\n\n"

    def event_for(self, event_id: str, notification: Notification) -> str:
        """Return the event for *notification*."""
        encode = self.encode
        text = notification.payload if encode is None else encode(notification)
        if not isinstance(text, str):
            raise TypeError(f"encode must return an event's data as str, not {type(text).__name__}")
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
                raise TypeError(f"event must return an event's name as str, not {type(name).__name__}")
        name = _without_line_breaks(name)
        if (what := self._reserved_for(name)) is not None:
            raise ConfigurationError(
                f"a notification's event would have the name of {what}, {name!r}: choose another name for "
                "it with event=, or for gap events with gap="
            )
        return name

    def _reserved_for(self, name: str) -> str | None:
        """Return which other events use *name*; ``None`` if none do."""
        if name == self.gap:
            return "gap events"
        return "a browser's own events" if name in BROWSER_EVENTS else None


class EventStream:
    """The body of a response, in chunks. The server iterates the stream and closes it.

    The stream ends with its subscription. The subscription is closed when the stream is closed, ends or is
    garbage-collected, and when the greenlet that waits for a chunk is killed. A greenlet that takes longer
    than ``send_timeout`` from one chunk to the next gets a ``BrokenPipeError``.
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
        """Whether the stream returns no more chunks."""
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
        """Close the stream and its subscription. Idempotent; never waits.

        If another greenlet is sending a chunk, that send continues within its time limit.
        """
        self._finish()
        self._sender.detach()
        streams.remove(self)
        if self._open_streams is not None:
            self._open_streams.discard(self)

    def end(self) -> None:
        """Let the stream end once its queue is sent. Never waits."""
        self._subscription.close()

    def abort(self) -> None:
        """Interrupt the greenlet that is sending a chunk, if there is one. Never waits."""
        self._sender.abort()

    def __repr__(self) -> str:
        return f"<EventStream {'over' if self._ended else 'open'} of {self._subscription!r}>"

    def _chunk(self) -> bytes:
        """Return the next chunk; a comment if no event comes for the time of a heartbeat."""
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
                raise  # A timeout inside on_gap: a retry here could loop forever.
            return HEARTBEAT
        except (ListenerClosed, SubscriptionOverflow, ChannelNotOpen) as error:
            if not self._subscription.closed:
                raise  # Thrown in from outside, or raised by on_gap.
            if isinstance(error, ListenerClosed):
                raise StopIteration from None
            self._finish()
            return self._format.gap_event(self._next_id()).encode()
        return self._with_queued(self._event(item))

    def _with_queued(self, first: bytes) -> bytes:
        """Return *first* and the events that are queued: one write for each event would cost more."""
        events, size = [first], len(first)
        # With an empty queue get() would let other greenlets run, and would delay this chunk.
        while size < CHUNK and queued(self._subscription):
            try:
                item = self._subscription.get(0)
            except Error:
                break  # Another consumer took the item, or on_gap raised: the next call raises again.
            events.append(self._event(item))
            size += len(events[-1])
        return b"".join(events)

    def _event(self, item: Notification | None) -> bytes:
        event_id = self._next_id()
        if item is None:
            return self._format.gap_event(event_id).encode()
        return self._format.event_for(event_id, item).encode()

    def _next_id(self) -> str:
        """Return a unique id for the next event. A stream cannot resume from it."""
        self._number += 1
        return f"{self._prefix}-{self._number}"

    def _finish(self) -> None:
        self._ended = True
        self._subscription.close()


def _without_line_breaks(name: str) -> str:
    """Return *name* without line breaks, which the name of an event cannot hold."""
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
