"""Lines of text to a standard stream, written from greenlets without holding up the hub.

Neither ``print`` nor gevent's own file objects will do. ``print`` blocks, heartbeats included, as long as a
pager or a slow reader takes its time. `gevent.fileobject.FileObjectPosix` makes the descriptor non-blocking,
for every process that shares it too: the shell, and whatever else has the terminal.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
from datetime import datetime, timezone
from typing import TextIO

from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.socket import wait_read, wait_write

__all__ = ["Output", "timestamp"]

CHUNK = select.PIPE_BUF
"""Bytes that one write may have: a pipe that is ready for writing takes so many without blocking (Python's
documentation of `select.PIPE_BUF`), and in one piece (POSIX, ``write``)."""


def timestamp() -> str:
    """Return the present time in ISO 8601 with milliseconds and the local offset from UTC."""
    return datetime.now(timezone.utc).astimezone().isoformat(timespec="milliseconds")


class Output:
    """Writes whole lines to *stream*; drops them once nobody can read them any more."""

    def __init__(self, stream: TextIO | None) -> None:
        """Take ``sys.stdout`` or ``sys.stderr``, which are ``None`` if they were closed from the start."""
        self.closed = Event()
        """Set when writing makes no sense any more."""
        self.error: OSError | None = None
        """Why; ``None`` as long as it does, and where the reader just went away."""
        if stream is None:
            # The number belongs to whatever is opened next, a database connection for instance.
            self._descriptor = -1
            self.closed.set()
            return
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._is_pipe, self._is_waited_for = _nature(self._descriptor)
        # Guards the line: one that needs several writes must not have another one in its middle.
        self._lock = BoundedSemaphore(1)

    def line(self, text: str) -> None:
        """Write *text*, which has no newline, and one; wait, without the hub, until it is out.

        What the stream's encoding lacks is escaped. Raises nothing: see ``closed``.
        """
        if self.closed.is_set():
            return
        rest = memoryview((text + "\n").encode(self._encoding, "backslashreplace"))
        with self._lock:
            try:
                while rest and not self.closed.is_set():
                    rest = rest[self._write(rest[:CHUNK]) :]
            except BrokenPipeError:
                self.closed.set()
            except OSError as error:  # a full disk, a terminal that was hung up
                self.error = error
                self.closed.set()

    def wait_closed(self) -> None:
        """Wait until nobody reads any more. With a pipe that is noticed at once, not by the next line."""
        if self._descriptor >= 0 and self._is_pipe:
            # The writing end becomes readable when, and only when, the last reader is gone (poll: POLLERR).
            wait_read(self._descriptor)
            self.closed.set()
        self.closed.wait()

    def _write(self, data: memoryview) -> int:
        if self._is_waited_for:
            wait_write(self._descriptor)
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            # Somebody who shares the descriptor made it non-blocking, and somebody filled it.
            return 0


def _nature(descriptor: int) -> tuple[bool, bool]:
    """Return whether *descriptor* is the writing end of a pipe, and whether one can wait for it at all.

    A file on disk is always ready, and epoll refuses it.
    """
    mode = os.fstat(descriptor).st_mode
    is_pipe = stat.S_ISFIFO(mode)
    only_writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    return is_pipe and only_writes, is_pipe or stat.S_ISSOCK(mode) or os.isatty(descriptor)
