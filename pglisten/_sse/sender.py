"""The greenlet that sends a stream, and the time limit for each of its chunks.

A WSGI server sends a chunk in the greenlet that iterates the body. Neither gunicorn nor `gevent.pywsgi`
limits how long that send waits for the client, so the body sets the limit. The time starts when the greenlet
gets a chunk. It stops when the greenlet asks for the next chunk, or closes the stream.
"""

from __future__ import annotations

import errno
import time
import weakref
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent

from .._greenlet import Greenlet, current
from .._ownership import Owner

__all__ = ["Sender"]


class Sender:
    """The time limit for each chunk that a greenlet sends.

    A greenlet that exceeds the limit gets a `BrokenPipeError`, as if the client had disconnected. Servers
    then close the stream and the connection. `GreenletExit` would not work: gunicorn swallows it, and reads
    the next request from a connection that is in the middle of a chunk.
    """

    __slots__ = ("__weakref__", "_greenlet", "_owner", "_since", "_timeout", "_timer")

    def __init__(self, timeout: float) -> None:
        """Limit each chunk to *timeout* seconds."""
        self._timeout = timeout
        self._owner = Owner()
        self._greenlet: Greenlet | None = None
        """The greenlet that iterates the stream, until it closes the stream.

        None for a hub or a main greenlet: only a `Greenlet` can be interrupted.
        """
        self._since: float | None = None
        """When the greenlet got the chunk that it sends, of the monotonic clock; ``None`` between chunks."""
        self._timer: Any = None
        """The event loop's timer. It runs on from chunk to chunk, because a timer for each would cost more.

        When it fires, it looks how old the current chunk is.
        """

    def attach(self) -> None:
        """Stop the time: the current greenlet asks for the next chunk."""
        self._since = None
        if getcurrent() is not self._greenlet:
            self._greenlet = current()

    def start_timer(self) -> None:
        """Start the time: the current greenlet gets its chunk."""
        if self._greenlet is not None:
            self._since = time.monotonic()
            if self._timer is None:
                self._fire_after(self._timeout)

    def detach(self) -> None:
        """Stop the time: the current greenlet has closed the stream.

        If another greenlet is sending a chunk, that send continues within its limit.
        """
        greenlet = self._greenlet
        if greenlet is None or greenlet.dead or greenlet is current():
            self._stop_timer()
            self._since = self._greenlet = None

    def abort(self) -> None:
        """Interrupt the current send, if there is one. Never waits."""
        if self._greenlet is not None:
            self._greenlet.kill(BrokenPipeError(errno.EPIPE, "the stream was aborted"), block=False)

    def fired(self) -> None:
        """Interrupt the current send if its time is over.

        The hub calls this, so no greenlet can have changed the state since the timer fired.
        """
        self._stop_timer()
        greenlet = self._greenlet
        # In a forked child the greenlet is a copy, and the socket belongs to the parent.
        if greenlet is None or greenlet.dead or self._since is None or self._owner.forked:
            return
        left = self._since + self._timeout - time.monotonic()
        if left > 0:
            self._fire_after(left)
            return
        text = f"the client has not taken a chunk within {self._timeout:g} s"
        greenlet.throw(BrokenPipeError(errno.EPIPE, text))

    def _fire_after(self, seconds: float) -> None:
        # ref=False: a stream that is dropped without close() must not keep the program running.
        self._timer = get_hub().loop.timer(seconds, ref=False)
        # Weak: once the stream is dropped, the greenlet does other work and must not be interrupted.
        reference: weakref.ref[Sender] = weakref.ref(self)
        # update=True: the loop's own time may be older than the chunk.
        self._timer.start(_fired, reference, update=True)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None


def _fired(reference: weakref.ref[Sender]) -> None:
    sender = reference()
    if sender is not None:
        sender.fired()
