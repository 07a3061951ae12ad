"""One session of the fake server: its state at the server, and what is on the way to the client."""

from __future__ import annotations

import contextlib
import os

import gevent
from gevent.event import Event

from ..backend import Notification, OwnedDescriptor
from ..errors import ConnectionLost, copy_for_raise

__all__ = ["FakeProcess"]


class FakeProcess:
    """The server process of one session, and the wire between it and its client.

    The wire is a pipe, so that a client can wait for it as for a socket. It holds at most one byte: while
    something waits for an idle client, and forever after the session has ended. Notifications that come with
    a reply are not announced on the pipe, because a real driver reads them with the reply.
    """

    def __init__(self, pid: int, settings: dict[str, str], running: Event) -> None:
        self.pid = pid
        self.settings = settings
        self.channels: dict[str, None] = {}
        self.reason: ConnectionLost | None = None
        self._running = running  # the server's event: not set while it is frozen
        self._ended = Event()
        self._busy = False
        self._held: list[Notification] = []  # at the server: it sends to idle sessions only
        self._arrived: list[Notification] = []  # at the client
        self._announced = False  # whether there is a byte in the pipe
        self._read_end, self._write_end = map(OwnedDescriptor, os.pipe())
        os.set_blocking(self._read_end.fileno(), False)

    # The server's side.

    def deliver(self, notification: Notification) -> None:
        """Send *notification*, or keep it until the session's query ends or the server thaws."""
        self._held.append(notification)
        self.flush()

    def flush(self) -> None:
        """Send the kept notifications, if the session is idle and the server is not frozen."""
        if self._held and not self._busy and self._running.is_set():
            self._send_held()
            self._announce()

    def end(self, reason: ConnectionLost) -> None:
        """End the session: the client gets *reason* after everything that was sent before."""
        self.reason = self.reason or reason
        self._held.clear()
        self._ended.set()
        self._announce()

    def check(self) -> None:
        """Raise `ConnectionLost` if the session has ended."""
        if self.reason is not None:
            raise copy_for_raise(self.reason)

    def wait_running(self) -> None:
        """Wait until the server is not frozen. Raises `ConnectionLost` if the session ends meanwhile."""
        gevent.sleep(0)  # a real server never answers within one turn of the hub
        if not self._running.is_set():
            gevent.wait([self._running, self._ended], count=1)
        self.check()

    def sleep(self, seconds: float) -> None:
        """Wait *seconds*, as ``pg_sleep`` does. Raises `ConnectionLost` if the session ends meanwhile."""
        self._ended.wait(seconds)
        self.check()

    # The client's side.

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._read_end.fileno()

    def begin(self) -> None:
        """Mark the session as busy. Raises `ConnectionLost` if it has ended."""
        self.check()
        self._busy = True

    def finish(self) -> None:
        """Mark the session as idle; the kept notifications arrive with the reply."""
        self._busy = False
        self._send_held()

    def take(self) -> list[Notification]:
        """Return what has arrived. Raises `ConnectionLost` if that is nothing and the session has ended."""
        arrived, self._arrived = self._arrived, []
        if self._announced and self.reason is None and self._write_end.fileno() >= 0:
            os.read(self._read_end.fileno(), 1)
            self._announced = False
        if not arrived:
            self.check()
        return arrived

    def divert(self) -> None:
        """Point the client's descriptor at /dev/null, and keep its number open. Idempotent."""
        if self._write_end.fileno() >= 0:
            self._read_end.divert()
            self._write_end.close()
        self._announced = True  # there is no pipe to write to any more

    def close(self) -> None:
        """Close the descriptors. Idempotent."""
        self._read_end.close()
        self._write_end.close()
        self._announced = True

    def _send_held(self) -> None:
        self._arrived += self._held
        self._held.clear()

    def _announce(self) -> None:
        if not self._announced:
            self._announced = True
            descriptor = self._write_end.fileno()
            # A signal handler may have closed the session, or may close it between this check and the write.
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.write(descriptor, b"!")
