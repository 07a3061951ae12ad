"""The listener: one connection that stays listening, and a stream that says when something may be missing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ._completion import check_timeout
from ._connection import calls
from ._listener import config as _config
from ._listener.events import EventCallback, ListenerEvent
from ._listener.settings import DEFAULTS, ListenerOptions, ListenerOverflow, OptionOverrides, Settings
from ._listener.states import State
from ._listener.stats import Stats
from ._listener.supervisor import Supervisor
from ._may_wait import close_or_begin_to
from ._ownership import Replaced, thread_ident
from ._sql import notify_statement
from .backend import Backend, Notification
from .errors import ListenerClosed

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["EventCallback", "Listener", "ListenerEvent", "Stats"]

CLOSE_GRACE = 0.4
"""Seconds that ``close()`` gives a running event callback. Twice that is within the promised second: the
last event's callback may be slow as well."""

Made = TypeVar("Made", bound="Listener")


class Listener:
    """Keep one connection listening, and come back by itself when it is lost.

    It starts connecting in the background at once. Iterate it, in a greenlet, for `Notification` tuples in
    the server's order, and ``None`` where something may have been missed: after a reconnection, in a
    forked child, and where a full queue was cut. On ``None``, look at the state the notifications are about.

    *dsn* is a libpq connection string, ``key=value`` or URI; what it leaves out comes from the ``PG*``
    variables and libpq's defaults. *backend* is the driver's name; ``None`` means ``PGLISTEN_BACKEND``,
    then the first one installed; a `Backend` instance is taken as it is. All times are seconds.

    *min_reconnect_interval* is the wait after a first failed attempt; each further failure doubles it up to
    *max_reconnect_interval*. A connection that lived for the minimum is retried at once. *jitter* is the
    share by which each wait is varied at random, 0 to 1. *event_callback* is called with a
    `ListenerEvent` and an error or ``None``, in a greenlet of its own, one call at a time; it may block,
    raise (which is logged), and call this listener; after RECONNECTED the stream goes on when it returned.

    A queue of *queue_size* items stops the reading from the socket (``overflow="block"``: the server keeps
    the rest; what one read or one command's reply brought along comes on top), or drops the oldest
    (``"drop_oldest"``) with one ``None`` in their place.

    *connect_timeout* limits one attempt on one address (``None``: no limit); a ``connect_timeout`` in *dsn*
    goes before it. *heartbeat_interval* seconds after its last answer (``None``: never) the server is pinged,
    and without another within *heartbeat_timeout* the connection counts as lost.

    Raises `ConfigurationError` for any option, DSN or backend name that cannot work.

    After a fork the child gets a connection of its own with its first call here; the parent's is not touched.
    """

    def __init__(
        self,
        dsn: str = DEFAULTS.dsn,
        *,
        backend: str | Backend | None = DEFAULTS.backend,
        min_reconnect_interval: float = DEFAULTS.min_reconnect_interval,
        max_reconnect_interval: float = DEFAULTS.max_reconnect_interval,
        jitter: float = DEFAULTS.jitter,
        event_callback: EventCallback | None = DEFAULTS.event_callback,
        queue_size: int = DEFAULTS.queue_size,
        overflow: ListenerOverflow = DEFAULTS.overflow,
        connect_timeout: float | None = DEFAULTS.connect_timeout,
        heartbeat_interval: float | None = DEFAULTS.heartbeat_interval,
        heartbeat_timeout: float = DEFAULTS.heartbeat_timeout,
    ) -> None:
        options = ListenerOptions(
            dsn=dsn,
            backend=backend,
            min_reconnect_interval=min_reconnect_interval,
            max_reconnect_interval=max_reconnect_interval,
            jitter=jitter,
            event_callback=event_callback,
            queue_size=queue_size,
            overflow=overflow,
            connect_timeout=connect_timeout,
            heartbeat_interval=heartbeat_interval,
            heartbeat_timeout=heartbeat_timeout,
        )
        self._supervise(options.check())
        self._supervisor.start()

    def _supervise(self, settings: Settings) -> None:
        self._supervisor = Supervisor(settings)
        self._backend = settings.backend.name

    @classmethod
    def from_config(cls: type[Made], config: object, **overrides: Unpack[OptionOverrides]) -> Made:
        """Make one from *config*: ``os.environ``, another mapping, or an object with settings for attributes.

        ``PGLISTEN_QUEUE_SIZE`` is for *queue_size*, and so on for each option; strings are converted.
        *overrides* are options that go before *config*. Raises `ConfigurationError` for an unknown
        ``PGLISTEN_`` key, and for a value that cannot work.
        """
        return _config.make(cls, config, overrides)

    # The set of channels

    def listen(self, channel: str, timeout: float | None = None) -> None:
        """Listen to *channel*; return when the server has acknowledged it on the then current connection.

        Waits through reconnections, *timeout* seconds at most (``None``: for ever). Case counts. Raises

        * `InvalidChannelName`: empty, NUL, over 63 bytes of UTF-8, or not encodable; or, after the server
          was asked, a name that a database whose encoding is not UTF-8 would cut or change;
        * `ChannelAlreadyOpen`: it is in the set, acknowledged or not; after any other error it is not;
        * `ServerError`: the server refuses; `OperationTimeout`: no acknowledgement in time;
        * `ChannelNotOpen`: ``unlisten`` was called for it meanwhile; `ListenerClosed`.
        """
        calls.listen(self._require_open, channel, timeout)

    def unlisten(self, channel: str, timeout: float | None = None) -> None:
        """Stop listening to *channel*. What had arrived before is still delivered.

        With a connection, returns when the server has acknowledged it; without, at once. Raises
        `ChannelNotOpen`, `ListenerClosed`, or `OperationTimeout` after *timeout* seconds (``None``: never);
        the channel is out of the set then all the same.
        """
        calls.unlisten(self._require_open, channel, timeout)

    def unlisten_all(self, timeout: float | None = None) -> None:
        """Stop listening to every channel, by the rules of ``unlisten``; an empty set is no error."""
        calls.unlisten_all(self._require_open, timeout)

    @property
    def channels(self) -> frozenset[str]:
        """The set of channels, acknowledged or waiting to be."""
        return self._supervisor.channels.names

    # The connection

    def notify(self, channel: str, payload: str = "", timeout: float | None = None) -> None:
        """Send a notification over this connection; return when the server has committed it.

        Raises `InvalidChannelName` (see ``listen``) and `PayloadTooLong` (over 7999 bytes of UTF-8) before it
        is sent, `NotConnected`, `ServerError`, `ListenerClosed`. After `ConnectionLost`, and after
        `OperationTimeout` (*timeout* seconds, ``None``: never), it may have been sent or not.
        """
        statement = notify_statement(channel, payload)
        timeout = check_timeout(timeout)
        self._require_open().require_connection().notify(statement, channel, timeout)

    def ping(self, timeout: float | None = None) -> float:
        """Make a round trip and return its seconds.

        Raises `NotConnected` if there is no connection, `ConnectionLost` if it ends meanwhile,
        `ListenerClosed`, and `OperationTimeout` if no answer comes within *timeout* seconds (``None``: as
        long as the heartbeat allows): the connection counts as lost then.
        """
        timeout = check_timeout(timeout)
        return self._require_open().require_connection().ping(timeout)

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until connected and all channels are listened to.

        Raises `ListenerClosed`, or `OperationTimeout` after *timeout* seconds (``None``: never), whose
        ``__cause__`` is the error of the last failed attempt.
        """
        timeout = check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._require_open(even_closed=True).wait_connected(_remaining(deadline))
            except Replaced:
                continue

    @property
    def connected(self) -> bool:
        """Whether there is a connection with all channels listened to."""
        return self._supervisor.connection is not None

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._supervisor.state is State.CLOSED

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._backend

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        supervisor = self._supervisor
        if supervisor.owner.forked:
            return Stats()
        connection, queue = supervisor.connection, supervisor.queue
        return Stats(
            received=queue.received,
            delivered=queue.delivered,
            dropped=queue.dropped,
            overflows=queue.overflows,
            reconnects=supervisor.reconnects,
            failed_attempts=supervisor.failed_attempts,
            queue_depth=len(queue),
            connected_since=None if connection is None else supervisor.connected_since,
            last_error=supervisor.last_error,
            last_ping=None if connection is None else connection.last_ping,
            server_pid=None if connection is None else connection.pid,
        )

    # The stream

    def get(self, timeout: float | None = None) -> Notification | None:
        """Return the next notification, or ``None`` for a gap: something may have been missed here.

        Raises `OperationTimeout` after *timeout* seconds (``None``: never; 0: after one turn of the event
        loop), and `ListenerClosed` once the listener is closed and the queue is empty.
        """
        timeout = check_timeout(timeout)
        queue = self._supervisor.queue
        if queue.items and self._supervisor.owner.is_here:
            return queue.get(0)  # What is queued is there for the taking.
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._require_open(even_closed=True).queue.get(_remaining(deadline))
            except Replaced:
                continue

    def __iter__(self) -> Iterator[Notification | None]:
        """Iterate over what ``get()`` returns, until the listener is closed and the queue is empty."""
        while True:
            try:
                supervisor = self._require_open(even_closed=True)
                supervisor.queue.wait(None)
            except Replaced:
                continue
            except ListenerClosed:
                if not self.closed:
                    raise  # Thrown in from outside.
                return
            owner, queue, items = supervisor.owner, supervisor.queue, supervisor.queue.items
            # This runs once for each of a burst. That it is this process was asked when they were waited for.
            while items and thread_ident() == owner.thread:
                item = items.popleft()
                if item is None or queue.on_room:
                    queue.taken(item)
                yield item

    def close(self, timeout: float | None = CLOSE_GRACE) -> None:
        """End it, in whatever state it is; afterwards no greenlet, socket or server session is left.

        All waiting calls raise `ListenerClosed`; what is queued can still be taken. *timeout* is the seconds
        that a running event callback has to return before it is killed (``None``: no limit). Nothing else
        takes time. Closing twice is allowed. Called from the callback itself, it returns before the callback
        does; in the event loop and in a signal handler it returns at once if it cannot wait there.
        """
        timeout = check_timeout(timeout)
        if not (self.closed and self._supervisor.owner.forked):
            close_or_begin_to(self._require_open(even_closed=True).close, timeout)

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        supervisor = self._supervisor
        connection = supervisor.connection
        pid = "" if connection is None else f" server_pid={connection.pid}"
        state = "forked" if supervisor.owner.forked and not self.closed else supervisor.state.value
        channels = len(supervisor.channels)
        return f"<Listener {state} backend={self._backend} channels={channels}{pid}>"

    def _require_open(self, *, even_closed: bool = False) -> Supervisor:
        """Return this process's supervisor, which a forked child starts with its first call."""
        supervisor = self._supervisor
        forked = supervisor.owner.forked
        if not forked:
            supervisor.owner.check_thread()
        if supervisor.state is State.CLOSED and (forked or not even_closed):
            raise ListenerClosed("the listener was closed")
        if forked:
            supervisor = self._supervisor = supervisor.replace()
        return supervisor


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
