"""Lines of text to a standard stream, written from greenlets without blocking the hub.

``print`` and gevent's file objects are unsuitable. ``print`` blocks the hub, heartbeats included, while a
pager or another reader is slow. `gevent.fileobject.FileObjectPosix` makes the descriptor non-blocking for
every process that shares it: the shell, and all others on the terminal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import stat
import sys
from datetime import datetime, timezone
from typing import TextIO

from gevent.event import Event
from gevent.lock import BoundedSemaphore
from gevent.socket import wait_read, wait_write

__all__ = ["Output", "is_terminal", "local_time", "timestamp", "wants_colour"]

CHUNK = select.PIPE_BUF
"""Most bytes of one write. A pipe that is ready for writing takes them without blocking (Python's
documentation of `select.PIPE_BUF`), and in one piece (POSIX, ``write``)."""


def timestamp() -> str:
    """Return the current time in ISO 8601 with milliseconds and the local offset from UTC."""
    return local_time(datetime.now(timezone.utc), "milliseconds")


def local_time(moment: datetime, precision: str) -> str:
    """Return *moment* in ISO 8601 with the local offset from UTC; in its own offset if that is impossible.

    *precision* is that of `datetime.isoformat`.
    """
    # The years 1 and 9999 may have no local time.
    with contextlib.suppress(OverflowError, ValueError):
        moment = moment.astimezone()
    return moment.isoformat(timespec=precision)


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout is not None and sys.stdout.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def wants_colour() -> bool:
    """Return whether to print in colour."""
    # By no-color.org the variable counts if it is not empty.
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Output:
    """Writes whole lines to *stream*; discards them after its reader has gone."""

    def __init__(self, stream: TextIO | None) -> None:
        """Take ``sys.stdout`` or ``sys.stderr``, which are ``None`` if they were closed from the start."""
        self.closed = Event()
        """Set when lines can no longer be written."""
        self.error: OSError | None = None
        """The error that closed the output; ``None`` before, or if the reader has closed the pipe."""
        if stream is None:
            # The next file to be opened gets this descriptor's number, for example a database connection.
            self._descriptor = -1
            self.closed.set()
            return
        self._descriptor = stream.fileno()
        self._encoding = stream.encoding
        self._is_pipe, self._is_waited_for = _nature(self._descriptor)
        # Guards a line that needs several writes: no other line may come in between.
        self._lock = BoundedSemaphore(1)

    def line(self, text: str) -> None:
        """Write *text*, which has no newline, and a newline; wait cooperatively until it is written.

        Characters that the stream's encoding lacks are escaped. Raises nothing: see ``closed``.
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
            except OSError as error:  # for example a full disk or a closed terminal
                self.error = error
                self.closed.set()

    def wait_closed(self) -> None:
        """Wait until lines can no longer be written. A pipe's closing is noticed at once, without writing."""
        if self._descriptor >= 0 and self._is_pipe:
            # The writing end becomes readable only when the last reader has gone (poll: POLLERR).
            wait_read(self._descriptor)
            self.closed.set()
        self.closed.wait()

    def _write(self, data: memoryview) -> int:
        if self._is_waited_for:
            wait_write(self._descriptor)
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            # Another process that shares the descriptor made it non-blocking, and the pipe is full.
            return 0


def _nature(descriptor: int) -> tuple[bool, bool]:
    """Return whether *descriptor* is the writing end of a pipe, and whether gevent can wait for it.

    A file on disk is always ready, and epoll refuses it.
    """
    mode = os.fstat(descriptor).st_mode
    is_pipe = stat.S_ISFIFO(mode)
    only_writes = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY
    return is_pipe and only_writes, is_pipe or stat.S_ISSOCK(mode) or os.isatty(descriptor)
