"""One established session: it moves bytes between the transport and the protocol, and makes the waits."""

from __future__ import annotations

import contextlib

from pglisten.backend import Deadline, DeadlinePassed, Notification, Session, let_others_run
from pglisten.errors import ConnectionLost, copy_for_raise

from ._failure import Forked
from ._rows import Rows
from ._startup import Established
from ._wire import TERMINATE, State, WireProtocol

__all__ = ["Pg8000Session"]

CHUNK = 32768
"""Most bytes that one system call receives."""

BUDGET = 32768
"""How many bytes are parsed before other greenlets get their turn: about 430 short notifications, half a
millisecond. TLS returns one record of up to 16 kB at a time, so this may take several calls."""

GRACE_BYTES = 8 << 20
"""Most bytes received after the deadline in search of a reply: more than a socket's buffer holds
(``net.ipv4.tcp_rmem``, at most 6 MiB by default)."""


class Pg8000Session(Session):
    """A session after pg8000 has done the start-up. It uses nothing of pg8000."""

    def __init__(self, established: Established) -> None:
        self.pid = established.pid
        self._transport = established.transport
        self._protocol = WireProtocol()
        self._lost: ConnectionLost | None = None
        """Why the session is useless; ``None`` while it works. The first cause stays."""
        self._feed(established.rest)

    def __repr__(self) -> str:
        state = "lost" if self._lost else self._protocol.state.value
        return f"<Pg8000Session {state} server_pid={self.pid} fileno={self.fileno()}>"

    def fileno(self) -> int:
        """Return the socket's descriptor; -1 after `close` and `abandon`."""
        return self._transport.fileno()

    def execute(self, sql: str, timeout: float | None) -> None:
        """Run one simple query and discard its results; see `pglisten.backend.Session.execute`."""
        self._run(sql, timeout)

    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        """Run a query and return its last statement's rows; see `pglisten.backend.Session.fetch`."""
        rows = Rows()
        self._run(sql, timeout, rows)
        return rows.result()

    def _run(self, sql: str, timeout: float | None, rows: Rows | None = None) -> None:
        if self._lost is None and self._protocol.state is not State.IDLE:
            self._mark_lost(
                ConnectionLost("a query was interrupted: its reply would be taken for the next one's")
            )
        if self._lost is None:
            self._receive()  # Messages that came before the query are no reply to it.
        self._raise_if_lost()
        try:
            self._exchange(self._protocol.query(sql, rows), Deadline(timeout))
        except DeadlinePassed:
            self._mark_lost(ConnectionLost(f"the server did not answer a query within {timeout:g} s"))
        self._raise_if_lost()
        if refusal := self._protocol.take_refusal():
            raise refusal

    def receive(self) -> list[Notification]:
        """Return the notifications in about `BUDGET` bytes; see `pglisten.backend.Session.receive`.

        Returns ``[]`` if these bytes contain none, although more bytes may have arrived. Only the kernel
        holds these, because TLS returns whole records, so the descriptor is readable. If it read on until
        it found a notification, a server that sends other messages could block the hub.
        """
        protocol = self._protocol
        if not protocol.notifications and self._lost is None:
            self._receive()
        arrived = protocol.take_notifications()
        if not arrived:
            self._raise_if_lost()
        return arrived

    def close(self) -> None:
        """Send Terminate if no query is under way, without waiting, and close the descriptor."""
        if self._transport.forked:
            self.abandon()
        if self._lost is None and self._protocol.state is State.IDLE:
            with contextlib.suppress(OSError):  # The server has closed the connection.
                self._transport.send(memoryview(TERMINATE))
        self._mark_lost(ConnectionLost("the session is closed"))
        self._transport.close()

    def abandon(self) -> None:
        """Keep the descriptor open without a peer and send nothing, not even TLS's close_notify."""
        self._mark_lost(ConnectionLost("the session is its parent process's"))
        self._transport.divert()

    def _exchange(self, query: bytes, deadline: Deadline) -> None:
        """Send *query* and receive until its reply is complete or the session is lost.

        It also receives while it sends: a server that is blocked sending notifications reads nothing before
        we read them, so to send everything first would be a deadlock. It receives first: if the server has
        ended an idle session, the reason is in the socket's buffer, and an attempt to send could destroy
        it.
        """
        unsent = memoryview(query)
        after_deadline, looked_once_more, since_last_turn = 0, False, 0
        while self._lost is None and (unsent or self._protocol.state is State.BUSY):
            received = self._receive()
            sent = 0
            if unsent and self._lost is None:
                sent = self._send(unsent)
                unsent = unsent[sent:]
            if deadline.passed:
                # If the hub was blocked, the reply may have arrived although the time is over. It may stand
                # behind all that the socket's buffer holds, so read that first. Other greenlets get a turn
                # before the error, even if the timeout was 0.
                after_deadline += received
                if after_deadline > GRACE_BYTES or (looked_once_more and not received):
                    raise DeadlinePassed
                looked_once_more = True
            since_last_turn += received
            if since_last_turn >= BUDGET or looked_once_more:
                let_others_run()
                since_last_turn = 0
            elif not received and not sent:
                self._wait(deadline, writable=bool(unsent))
                since_last_turn = 0

    def _wait(self, deadline: Deadline, *, writable: bool) -> None:
        try:
            self._transport.wait(deadline, writable=writable)
        except DeadlinePassed:
            pass  # `_exchange` checks the deadline after it has received what arrived meanwhile.
        except Forked as exc:
            self._mark_lost(ConnectionLost(str(exc)))

    def _receive(self) -> int:
        """Feed what has arrived until nothing is left or `BUDGET` is spent; return how many bytes."""
        received = 0
        while received < BUDGET and self._lost is None:
            try:
                data = self._transport.receive(CHUNK)
            except OSError as exc:
                self._mark_lost(self._protocol.end(_explain(exc)), exc)
                break
            if data is None:
                break
            if not data:
                self._mark_lost(self._protocol.end())
                break
            self._feed(data)
            received += len(data)
            # A short read has emptied the socket, so save the system call. TLS returns one record at a time.
            if len(data) < CHUNK and not self._transport.is_tls:
                break
        return received

    def _send(self, data: memoryview) -> int:
        try:
            return self._transport.send(data)
        except OSError as exc:
            # The server's last message may still be in the socket's buffer.
            self._receive()
            self._mark_lost(self._protocol.end(_explain(exc)), exc)
            return 0

    def _feed(self, data: bytes) -> None:
        try:
            self._protocol.feed(data)
        except ConnectionLost as exc:
            self._mark_lost(exc)

    def _mark_lost(self, error: ConnectionLost, cause: OSError | None = None) -> None:
        if self._lost is None:
            if cause is not None:
                # Without its frames, which would live as long as the session.
                error.__cause__ = cause.with_traceback(None)
            self._lost = error

    def _raise_if_lost(self) -> None:
        if self._lost is not None:
            raise copy_for_raise(self._lost)


def _explain(exc: OSError) -> str:
    return f"connection to the server broke: {exc.strerror or exc}"
