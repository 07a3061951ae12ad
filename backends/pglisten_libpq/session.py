"""What a session over libpq is, whatever driver calls libpq's functions."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Iterable

from pglisten.backend import MAX_RESULT, Deadline, DeadlinePassed, Notification, OwnedDescriptor, Session
from pglisten.errors import ConnectionLost, copy_for_raise

from .reasons import ServerMessage, explain
from .waiting import DriverError, Step, drive

__all__ = ["LibpqSession", "Unreadable", "leak"]

ENOUGH = 300
"""If it has this many notifications, ``receive`` reads no more."""

BATCH = 600
"""Most notifications that one ``receive`` returns. With a consumer's work for each, they take one or two
milliseconds. One read may bring more, as many as libpq's buffer holds; the next call returns the others."""

_leaked: list[object] = []
"""Connections that libpq must never finish: see `leak`."""


def leak(connection: object) -> None:
    """Keep a driver's *connection* until the process ends, so that libpq never finishes it.

    To finish it, libpq would send in the parent's TLS session and close a number that may belong to another
    file by now.
    """
    _leaked.append(connection)


class Unreadable(Exception):
    """libpq cannot go on: its own text for the reason, and the driver's error."""

    def __init__(self, text: str, cause: Exception | None) -> None:
        super().__init__(text)
        self.text = text
        self.cause = cause


class LibpqSession(Session):
    """A session over the driver's *connection*, whose descriptor is *libpqs*."""

    server_encoding: str | None
    """The database's encoding, as the server names it."""

    def __init__(self, connection: object, libpqs: int) -> None:
        self._connection_to_leak = connection
        self._libpq_descriptor = OwnedDescriptor(libpqs)
        # A duplicate: libpq closes its own descriptor as soon as it finds the connection broken, while a
        # greenlet may wait for it. Another file could then get the same number.
        self._descriptor = OwnedDescriptor(os.dup(libpqs))
        self._owner = os.getpid()
        self._closed = self._abandoned = False
        self._lost: ConnectionLost | None = None
        self._received: list[Notification] = []
        """Notifications that `receive` has not returned yet. After a loss, it returns them before it
        raises."""
        self._refusal = ""
        """libpq's text for the last refused query. libpq appends its text for a loss to this one."""
        self._end_notice: ServerMessage | None = None
        """The server's message that it will end the session, if it sent one."""

    @abstractmethod
    def _read(self) -> list[Notification]:
        """Read once without waiting; return the notifications that came. Raises `Unreadable`."""

    @abstractmethod
    def _unread(self) -> list[Notification]:
        """Return the notifications that libpq has read and `_read` has not returned. Reads nothing."""

    @abstractmethod
    def _notices(self) -> list[ServerMessage]:
        """Return what the server said beside its replies since the last call, a limited number."""

    @abstractmethod
    def _log(self, message: str, *values: object) -> None:
        """Log a notice of the server, at DEBUG, to the driver's logger."""

    @abstractmethod
    def _finish(self) -> None:
        """End the connection: send the last message if that is possible at once, close the descriptor."""

    def _let_go(self) -> None:
        """Drop what must not outlive the session's use of the connection."""

    def fileno(self) -> int:
        """Return a duplicate of libpq's descriptor, which nothing else closes."""
        return self._descriptor.fileno()

    def receive(self) -> list[Notification]:
        """Return what has arrived, as `Session.receive` says."""
        if self._lost is not None:
            return self._receive_before_loss()
        received, self._received = self._received, []
        try:
            while len(received) < ENOUGH:
                # libpq reads the available data, up to the size of its buffer, and over TLS one record. If
                # that brings no notification, the socket is empty: a read that stops within a record has
                # filled at least 8 kB (pqReadData), and no notification is as long as that.
                fresh = self._read()
                if not fresh:
                    break
                received += fresh
                if len(fresh) == 1:
                    break  # No burst. The consumer waits for this one, and another read costs a system call.
        except Unreadable as error:
            self._mark_lost(error.text, error.cause)
            self._received[:0] = received
            return self._receive_before_loss()
        self._read_notices()
        if len(received) > BATCH:
            self._received = received[BATCH:]
            del received[BATCH:]
        return received

    def _receive_before_loss(self) -> list[Notification]:
        """Return the notifications that arrived before the loss; raise the loss when there are none left."""
        received, self._received = self._received, []
        if not received and self._lost is not None:
            raise copy_for_raise(self._lost)
        return received

    def _check_usable(self) -> None:
        """Raise the loss if there was one."""
        if self._lost is not None:
            raise copy_for_raise(self._lost)

    def _complete(
        self,
        send: Callable[[], DriverError | None],
        step: Callable[[], Step | DriverError],
        timeout: float | None,
    ) -> DriverError | None:
        """Call *send*, which sends a query, and *step* until the reply is complete.

        Returns the driver's error that one of them has returned, if any.
        """

        def step_and_collect() -> Step | DriverError:
            needed = step()
            # Take them now, not at the end: a server that floods the session would block the hub then.
            self._received += self._unread()
            return needed

        try:
            return send() or drive(step_and_collect, self.fileno, Deadline(timeout))
        except DeadlinePassed:
            pass
        except BaseException:
            self._mark_lost("a query was interrupted, and its reply is still to come")
            raise
        # Outside of the handler: the frames of a context would hold the statement, and so a payload.
        raise self._mark_lost(f"the server did not answer a query within {timeout:g} s")

    def _mark_lost(self, text: str, cause: Exception | None = None) -> ConnectionLost:
        """Mark the connection as lost: for the server's reason if it gave one, else for *text*.

        Returns the error to raise.
        """
        self._received += self._unread()
        self._read_notices()
        message, sqlstate = explain((self._refusal and text.rpartition(self._refusal)[2]) or text)
        if sqlstate is None and self._end_notice is not None:
            message, sqlstate = self._end_notice.message, self._end_notice.sqlstate
        self._lost = ConnectionLost(message, sqlstate=sqlstate)
        if cause is not None:
            # Without its frames, which would live as long as the session.
            self._lost.__cause__ = cause.with_traceback(None)
        return copy_for_raise(self._lost)

    def _read_notices(self) -> None:
        """Keep the server's message that ends the session, and log its notices."""
        for notice in self._notices():
            if notice.ends_the_session:
                self._end_notice = notice
            # Only the server's own notices: an application's RAISE NOTICE (00000) may contain a payload.
            if notice.sqlstate != "00000":
                self._log("server %d: %s %s: %s", self.pid, notice.severity, notice.sqlstate, notice.message)

    def _rows(self, values: Iterable[tuple[str | None, ...]]) -> list[tuple[str | None, ...]]:
        """Return all rows of an answer, unless they are more than `MAX_RESULT` bytes."""
        rows: list[tuple[str | None, ...]] = []
        size = 0
        for row in values:
            size += 7 + sum(4 + len((value or "").encode()) for value in row)
            # libpq already holds the whole result, but the limit is the same for all backends.
            if size > MAX_RESULT:
                raise self._mark_lost(
                    f"the server sent more than {MAX_RESULT} bytes of rows for a short query"
                )
            rows.append(row)
        return rows

    def close(self) -> None:
        """End the session, as `Session.close` says."""
        if self._closed:
            return
        if os.getpid() != self._owner:
            self.abandon()
        self._closed = True
        self._let_go()
        self._lost = self._lost or ConnectionLost("the session was closed")
        if self._abandoned or not self._descriptor.is_ours:
            leak(self._connection_to_leak)
            self._libpq_descriptor.close()
        else:
            # libpq is in non-blocking mode: it does not send what it cannot send at once.
            self._finish()
        self._descriptor.close()

    def abandon(self) -> None:
        """Let go of the connection, as `Session.abandon` says."""
        if self._closed or self._abandoned:
            return
        self._abandoned = True
        self._let_go()
        self._lost = self._lost or ConnectionLost("the session is its parent process's")
        # Divert both and close neither: copies of the parent's greenlets may wait for them. If libpq or
        # OpenSSL sends a last message later, it must not reach the parent's connection.
        self._descriptor.divert()
        self._libpq_descriptor.divert()
