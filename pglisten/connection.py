"""A single connection that listens, and is not replaced when it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from . import _options
from ._completion import check_timeout
from ._connection import calls
from ._connection.channels import ChannelTable
from ._connection.connect import dial
from ._connection.live import LiveConnection
from ._connection.target import Target
from ._conninfo.urls import Dsn
from ._may_wait import check_may_wait, close_or_begin_to
from ._ownership import Owner
from ._queues import ListenerQueue
from ._sql import check_statement, notify_statement
from .backend import Backend, Notification
from .errors import ConnectionLost, Error, ListenerClosed, copy_for_raise

__all__ = ["ListenerConnection"]


class ListenerConnection:
    """Make one connection, which is not replaced when it is lost. Most programs want `Listener`.

    *dsn*, *backend*, *queue_size* and *connect_timeout* are those of `Listener`. A full queue stops reading
    from the socket. Raises `ConfigurationError`, or `ConnectionFailed` if the connection cannot be made. One
    query runs at a time; others wait. After the connection has ended, each call raises the first cause.
    """

    def __init__(
        self,
        dsn: Dsn,
        *,
        backend: str | Backend | None = None,
        queue_size: int = 1024,
        connect_timeout: float | None = 10.0,
    ) -> None:
        check_may_wait()
        target = Target(dsn, backend, connect_timeout)
        del dsn  # Error trackers record the variables of this frame if the connection fails.
        self._queue = ListenerQueue(_options.queue_size(queue_size))
        self._channels = ChannelTable()
        self._backend = target.backend.name
        self._owner = Owner()
        self._connection = LiveConnection(
            dial(target.backend, *target.current(), look_for_pooler=True),
            queue=self._queue,
            channels=self._channels,
            on_ended=self._ended,
        )
        self._connection.open()

    def _ended(self, cause: Error) -> None:
        self._queue.finish(cause)
        self._channels.fail(cause)

    def listen(self, channel: str, timeout: float | None = None) -> None:
        """Listen to *channel*; return when the server has acknowledged it.

        Raises what `Listener.listen` raises, and the cause of the connection's end. After
        `InvalidChannelName`, `ServerError` or `OperationTimeout` (*timeout* seconds; ``None``: never),
        *channel* is not in the set.
        """
        calls.listen(self._require_open, channel, timeout)

    def unlisten(self, channel: str, timeout: float | None = None) -> None:
        """Stop listening to *channel*; notifications that had arrived before are still delivered.

        Raises `ChannelNotOpen`, `OperationTimeout` after *timeout* seconds (``None``: never), or the cause of
        the connection's end.
        """
        calls.unlisten(self._require_open, channel, timeout)

    def unlisten_all(self, timeout: float | None = None) -> None:
        """Stop listening to all channels, by the rules of ``unlisten``; an empty set is no error."""
        calls.unlisten_all(self._require_open, timeout)

    def notify(self, channel: str, payload: str = "", timeout: float | None = None) -> None:
        """Send a notification; return when the server has committed it.

        Raises `InvalidChannelName` and `PayloadTooLong` (over 7999 bytes of UTF-8) before it is sent,
        `ServerError`, `OperationTimeout` after *timeout* seconds (``None``: never), or the cause of the
        connection's end.
        """
        statement = notify_statement(channel, payload)
        timeout = check_timeout(timeout)
        self._require_open().notify(statement, channel, timeout)

    def execute(self, sql: str, timeout: float | None = None) -> None:
        """Run one simple query, which may hold several statements, and discard its results.

        Raises `ServerError` if the server refused the query: the connection is fine. Raises `ConnectionLost`
        if the query could not be completed: the connection is dead. Raises `OperationTimeout` after *timeout*
        seconds (``None``: never) of waiting for its turn or its end: a query that has begun runs to its end.
        Raises `ListenerClosed`.

        Leave no transaction open: LISTEN takes effect with its commit, and notifications wait for it.
        ``channels`` does not see what *sql* does to the session. After ``UNLISTEN``, ``DISCARD ALL``, or a
        ``ROLLBACK`` of the transaction in which ``listen`` was called, it still names channels that the
        server no longer has. To mend that, call ``unlisten`` and ``listen``; better, use ``unlisten``
        instead of such SQL. Do not change ``client_encoding``.
        """
        check_statement(sql)
        timeout = check_timeout(timeout)
        self._require_open().execute(sql, timeout, "execute")

    def ping(self, timeout: float | None = None) -> float:
        """Make a round trip and return its seconds.

        Raises `OperationTimeout` if no reply arrives within *timeout* seconds (``None``: waits forever). The
        connection then counts as lost, unless a query of ``execute`` runs before the ping. Raises the cause
        of the connection's end if it has ended.
        """
        timeout = check_timeout(timeout)
        return self._require_open().ping(timeout)

    def get(self, timeout: float | None = None) -> Notification:
        """Return the next notification.

        Raises `OperationTimeout` after *timeout* seconds (``None``: never; 0: after one turn of the event
        loop). After the connection has ended and the queue is empty, raises the cause: `ConnectionLost`, or
        `ListenerClosed` after ``close()``.
        """
        timeout = check_timeout(timeout)
        if not self._owner.is_here:
            if self._owner.forked:
                self._require_open()
            self._owner.check_thread()
        item = self._queue.get(timeout)
        assert item is not None, "only a listener puts gap markers"
        return item

    def __iter__(self) -> Iterator[Notification]:
        """Iterate over what ``get()`` returns, until ``close()``; a loss is raised."""
        while True:
            try:
                item = self.get()
            except ListenerClosed:
                if self._queue.end is None:
                    raise  # Thrown in from outside.
                return
            yield item

    @property
    def channels(self) -> frozenset[str]:
        """The set of channels, acknowledged or waiting to be. SQL run by ``execute`` does not change it."""
        return self._channels.names

    @property
    def connected(self) -> bool:
        """Whether the connection is alive, as far as is known."""
        return self._connection.cause is None and not self._owner.forked

    @property
    def closed(self) -> bool:
        """Whether the connection has ended, by ``close()`` or otherwise."""
        return not self.connected

    @property
    def error(self) -> Error | None:
        """The cause of the end: `ConnectionLost` or `ListenerClosed`; ``None`` while the connection lives."""
        return self._connection.cause

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._backend

    @property
    def server_pid(self) -> int:
        """Process id of the server process."""
        return self._connection.pid

    def close(self, timeout: float | None = None) -> None:
        """Close the connection at once, in any state. Waiting calls raise `ListenerClosed`. Idempotent.

        *timeout* has no effect, because there is no callback to wait for. It is accepted because `Listener`
        has it. In the event loop and in a signal handler it returns at once if nothing can wait there.
        If a query of ``execute`` is running, the server ends it by itself, and then the session.
        In a forked child, the copy is dropped and the parent's session is not touched.
        """
        check_timeout(timeout)
        if not self._owner.forked:
            self._owner.check_thread()
        close_or_begin_to(
            lambda _: self._connection.close(ListenerClosed("the connection was closed")), timeout
        )

    def __enter__(self) -> ListenerConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "connected" if self.connected else "closed"
        return (
            f"<ListenerConnection {state} backend={self._backend} channels={len(self._channels)} "
            f"server_pid={self._connection.pid}>"
        )

    def _require_open(self) -> LiveConnection:
        """Return the connection if it is alive, else raise the cause of its end."""
        if self._connection.cause is not None:
            raise copy_for_raise(self._connection.cause)
        if self._owner.forked:
            raise ConnectionLost("this process was forked: the connection is its parent's; make one here")
        self._owner.check_thread()
        return self._connection
