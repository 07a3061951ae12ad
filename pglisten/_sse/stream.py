"""A subscription, or a follower of a log, as the bytes of a Server-Sent Events body."""

from __future__ import annotations

import random
import secrets
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple

from gevent.event import Event

from .._eventlog.bookmark import Nothing
from .._ownership import thread_ident
from ..errors import ChannelNotOpen, ListenerClosed, OperationTimeout, ServerError, SubscriptionOverflow
from .encoder import RECONNECTED, Encoder
from .form import EventForm, Item, Pacing
from .owners import Admission
from .registry import streams
from .sender import Sender
from .sources import Source

__all__ = ["EventStream", "Opening", "chance", "ended_stream"]

HEARTBEAT = b":\n"
"""A comment: it is no event for the client, and its write fails once the client is gone.

No empty line follows, because some clients other than browsers make an event of each empty line.
"""

CHUNK = 65536
"""Size in bytes from which a chunk takes no more events, even if more are queued."""

chance: Callable[[], float] = random.random
"""Spreads over time what many streams do. It keeps no secrets."""

_encoders: weakref.WeakValueDictionary[tuple[object, ...], Encoder] = weakref.WeakValueDictionary()
"""The encoders of the streams of this process, by thread and form."""


class Opening(NamedTuple):
    """How a stream begins."""

    missing: bool
    """Whether the client may have missed something, so that the stream begins with a gap."""
    admission: Admission | None = None
    """What counts the stream as its owner's; ``None`` without an owner."""


def encoder_of(form: EventForm) -> Encoder:
    """Return the encoder that all streams of *form* in this thread share."""
    key = thread_ident(), form
    try:
        encoder = _encoders.get(key)
        if encoder is None:
            encoder = _encoders[key] = Encoder(form, secrets.token_hex(4))
    except TypeError:  # One of the functions is not hashable.
        return Encoder(form, secrets.token_hex(4))
    return encoder


def first_chunk(encoder: Encoder, pacing: Pacing, position: int | None, *, missing: bool) -> bytes:
    """Return the beginning of a stream: an ``id``, or a gap, and the reconnect delay.

    An empty line makes a browser remember the ``id``. The browser sends it when it reconnects, even before
    its first event. Browsers skip the byte order mark, as the standard demands. Some parsers would make an
    event of an ``id`` alone; they do not skip the mark, find an unknown field, and ignore it.
    """
    retry = pacing.retry_field(chance()).encode()
    if missing:
        # The gap among entries has no id: one that came before it would hide it from a client that loses
        # its connection in between.
        return retry + (encoder.marked_gap(RECONNECTED) if position is None else encoder.first_gap)
    return f"\ufeffid: {encoder.next_mark() if position is None else position}\n\n".encode() + retry


def ended_stream(form: EventForm, pacing: Pacing, *, resumes: bool) -> bytes:
    """Return a stream that ends at once: the browser reconnects, to another worker.

    After any other status than 200 the browser would not reconnect. If the stream *resumes*, it has no
    ``id``, so that the browser keeps the one that it has.
    """
    if resumes:
        return pacing.retry_field(chance()).encode()
    return first_chunk(encoder_of(form), pacing, None, missing=False)


class EventStream:
    """The body of a response, in chunks. The server iterates the stream and closes it.

    The stream ends with its subscription or follower, which is closed when the stream is closed, ends or is
    garbage-collected, and when the greenlet that waits for a chunk is killed. A greenlet that takes longer
    than ``send_timeout`` from one chunk to the next gets a ``BrokenPipeError``.
    """

    def __init__(
        self,
        source: Source,
        form: EventForm,
        pacing: Pacing,
        opening: Opening,
        open_streams: weakref.WeakSet[EventStream] | None = None,
    ) -> None:
        self._source = source
        self._encoder = encoder_of(form)
        self._pacing = pacing
        self._resumes = source.position is not None
        self._first = first_chunk(self._encoder, pacing, source.position, missing=opening.missing)
        age = pacing.age_limit(chance())
        self._ends_at = None if age is None else time.monotonic() + age
        self._gap_at: float | None = None
        """When the gap event that is held back is due, of the monotonic clock."""
        self._interrupted: Event | None = None
        """Set when the stream ends while a gap event is held back."""
        self._ended = False
        """Whether the stream returns no more chunks."""
        self._sender = Sender(pacing.send_timeout)
        self._open_streams = open_streams
        if open_streams is not None:
            open_streams.add(self)
        streams.add(self)
        self._admission = opening.admission
        if self._admission is not None:
            self._admission.attach(self)

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
        if self._admission is not None:
            self._admission.release()

    def end(self) -> None:
        """Let the stream end once its queue is sent. Never waits."""
        self._source.close()
        if self._interrupted is not None:
            self._interrupted.set()

    def revoke(self) -> None:
        """End the stream without what is queued: the client may not have it any more. Never waits."""
        self._finish()

    def abort(self) -> None:
        """Interrupt the greenlet that is sending a chunk, if there is one. Never waits."""
        self._sender.abort()

    def __repr__(self) -> str:
        return f"<EventStream {'over' if self._ended else 'open'} of {self._source!r}>"

    def _chunk(self) -> bytes:
        """Return the next chunk; a comment if no event comes for the time of a heartbeat."""
        if self._ended:
            raise StopIteration
        if self._first:
            first, self._first = self._first, b""
            return first
        began = time.monotonic()
        wait = self._pacing.heartbeat
        if self._ends_at is not None:
            wait = min(wait, self._ends_at - began)
            if wait <= 0:
                raise StopIteration
        if self._gap_at is not None:
            return self._wait_for_gap(began, wait)
        try:
            item = self._source.get(wait)
        except OperationTimeout:
            if time.monotonic() - began < wait:
                raise  # A timeout inside on_gap: a retry here could loop forever.
            return HEARTBEAT
        except (ListenerClosed, SubscriptionOverflow, ChannelNotOpen, ServerError) as error:
            return self._last_chunk(error)
        if self._ended:
            raise StopIteration
        if item is None and self._pacing.gap_spread:
            self._hold_gap()
            return self._wait_for_gap(began, wait)
        return self._with_queued(self._event(item))

    def _last_chunk(self, error: Exception) -> bytes:
        """Return the gap with which a stream of notifications ends if it was not closed."""
        if self._ended:
            raise StopIteration from None
        if self._resumes and isinstance(error, ServerError):
            raise StopIteration from None  # The log cannot be read. The reader has logged why.
        if not self._source.closed or isinstance(error, ServerError):
            raise error  # Thrown in from outside, or raised by on_gap.
        if isinstance(error, ListenerClosed):
            raise StopIteration from None
        self._finish()
        return self._event(None)

    def _hold_gap(self) -> None:
        """Hold the gap event back, and so all that follows, for a part of ``gap_spread``."""
        self._gap_at = time.monotonic() + chance() * self._pacing.gap_spread
        self._interrupted = Event()

    def _wait_for_gap(self, now: float, wait: float) -> bytes:
        """Return the gap event once it is due, and a comment if that takes longer than *wait* seconds."""
        assert self._gap_at is not None
        assert self._interrupted is not None
        if self._source.closed:
            raise StopIteration
        left = self._gap_at - now
        # A client whose stream ends meanwhile reconnects, and then gets a gap.
        if self._interrupted.wait(max(0.0, min(wait, left))) or self._source.closed:
            raise StopIteration
        if wait < left:
            return HEARTBEAT
        self._gap_at = self._interrupted = None
        return self._with_queued(self._event(None))

    def _with_queued(self, first: bytes) -> bytes:
        """Return *first* and the events that are queued: one write for each event would cost more."""
        take = self._source.take
        item = take()
        if isinstance(item, Nothing) and not self._ended:
            return first  # Of a thousand streams, most come here for each event.
        events, size = [first], len(first)
        # Encoding may switch greenlets, and the stream may be revoked meanwhile.
        while not isinstance(item, Nothing) and not self._ended:
            if item is None and self._pacing.gap_spread:
                self._hold_gap()
                break
            events.append(event := self._event(item))
            size += len(event)
            if size >= CHUNK:
                break
            item = take()
        if self._ended:
            raise StopIteration
        return b"".join(events)

    def _event(self, item: Item | None) -> bytes:
        if item is not None:
            return self._encoder.event(item)
        self._source.skip()
        return self._encoder.gap if self._resumes else self._encoder.marked_gap()

    def _finish(self) -> None:
        self._ended = True
        self.end()
