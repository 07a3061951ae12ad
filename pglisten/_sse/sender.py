"""The greenlet that sends a stream, and the time limit for each of its chunks.

A WSGI server sends a chunk in the greenlet that iterates the body, and waits without a limit until the client
takes it: neither gunicorn nor `gevent.pywsgi` has one. So the body sets the limit. It runs from the chunk's
hand-over until the greenlet comes for the next one, or closes the stream.
"""

from __future__ import annotations

import errno
import weakref
from typing import Any

from gevent.hub import get_hub

from .._greenlet import Greenlet, current
from .._ownership import Owner

__all__ = ["Sender"]


class Sender:
    """Who sends a stream: no chunk of it outlives its time limit.

    A greenlet that is too slow gets a `BrokenPipeError`, as if the client were gone: then servers close the
    stream and the connection. `GreenletExit` would not do: gunicorn swallows it, and goes on to read the next
    request from the connection, in the middle of a chunk.
    """

    __slots__ = ("__weakref__", "_greenlet", "_owner", "_timeout", "_timer")

    def __init__(self, timeout: float) -> None:
        """Limit each chunk to *timeout* seconds."""
        self._timeout = timeout
        self._owner = Owner()
        self._greenlet: Greenlet | None = None
        """Who iterates the stream, until it closes it. Only a `Greenlet` can be thrown into."""
        self._timer: Any = None
        """The loop's, which runs while a chunk is being sent."""

    def attach(self) -> None:
        """Stop the time: the current greenlet has come for the next chunk."""
        self._stop_timer()
        self._greenlet = current()

    def start_timer(self) -> None:
        """Start the time: the current greenlet gets its chunk."""
        if self._greenlet is not None:
            # Without ref: a stream that is dropped without close() keeps no program from its end.
            self._timer = get_hub().loop.timer(self._timeout, ref=False)
            # Weak: once the stream is dropped, its greenlet is about something else.
            reference: weakref.ref[Sender] = weakref.ref(self)
            self._timer.start(_expire, reference)

    def detach(self) -> None:
        """Stop the time: the current greenlet is through with the stream.

        When it is another one than sends, the send goes on within its limit.
        """
        greenlet = self._greenlet
        if greenlet is None or greenlet.dead or greenlet is current():
            self._stop_timer()
            self._greenlet = None

    def abort(self) -> None:
        """End the send that is going on, if one is. Never waits."""
        if self._greenlet is not None:
            self._greenlet.kill(BrokenPipeError(errno.EPIPE, "the stream was aborted"), block=False)

    def expire(self) -> None:
        """End the send that is going on: its time is over. Called in the hub, so that nothing has changed."""
        self._stop_timer()
        greenlet = self._greenlet
        # In a forked child the greenlet is a copy, and the socket the parent's.
        if greenlet is not None and not greenlet.dead and not self._owner.forked:
            text = f"the client has not taken a chunk within {self._timeout:g} s"
            greenlet.throw(BrokenPipeError(errno.EPIPE, text))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None


def _expire(reference: weakref.ref[Sender]) -> None:
    sender = reference()
    if sender is not None:
        sender.expire()
