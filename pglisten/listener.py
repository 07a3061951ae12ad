"""The listener: a connection that is replaced after a loss, and a stream that marks possible gaps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from ._completion import check_timeout
from ._connection import calls
from ._conninfo.urls import Dsn
from ._listener import config as _config
from ._listener.events import EventCallback, ListenerEvent
from ._listener.settings import DEFAULTS, ListenerOptions, ListenerOverflow, OptionOverrides, Settings
from ._listener.states import State
from ._listener.stats import Stats, stats_of
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
"""Seconds that ``close()`` gives a running event callback, and again the last event's: within a second."""

Made = TypeVar("Made", bound="Listener")


class Listener:
    """Keep one connection listening, and connect again when it is lost.

    It starts to connect in the background at once. Iterate it in a greenlet: it yields `Notification` tuples
    in the server's order, and ``None`` where notifications may be missing: after a reconnection, in a forked
    child, and where a full queue dropped some. On ``None``, reload the state that they are about.

    *dsn* is a libpq connection string (``key=value`` or URI), a URL object, or a function that returns one
    and is called for each attempt. Omitted settings come from the ``PG*`` variables and libpq's defaults.
    *backend* is the driver's name or a `Backend` instance; ``None`` means ``PGLISTEN_BACKEND``, then the
    first one installed. All times are seconds.

    *min_reconnect_interval* is the delay after a first failed attempt. Each further failure doubles it, up to
    *max_reconnect_interval*. A connection that lived for the minimum is replaced at once. *jitter* is the
    share by which each delay varies at random, from 0 to 1.

    *event_callback* is called with a `ListenerEvent` and an error or ``None``, in a greenlet of its own, one
    call at a time. It may block, raise (the error is logged) and call this listener. After RECONNECTED the
    stream continues when the callback has returned.

    If *queue_size* items are queued, ``overflow="block"`` stops reading from the socket, and the server
    keeps the rest. The queue can exceed *queue_size* by one network read and by what arrives with a
    command's reply. ``"drop_oldest"`` drops the oldest notifications and puts one ``None`` in their place.

    *connect_timeout* limits one attempt on one address (``None``: no limit). A ``connect_timeout`` in *dsn*
    takes precedence. Every *heartbeat_interval* seconds (``None``: never), the server is asked for the number
    of channels. If no reply comes within *heartbeat_timeout*, or some are missing, the connection is lost.

    Raises `ConfigurationError` for a wrong option, DSN or backend name.

    After a fork, the child makes a connection of its own with its first call. The parent's is not touched.
    """

    def __init__(
        self,
        dsn: Dsn = DEFAULTS.dsn,
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
        self._backend = settings.target.backend.name

    @classmethod
    def from_config(cls: type[Made], config: object, **overrides: Unpack[OptionOverrides]) -> Made:
        """Make one from *config*: ``os.environ``, another mapping, or an object with settings for attributes.

        ``PGLISTEN_QUEUE_SIZE`` sets *queue_size*, and so on for each option; strings are converted.
        *overrides* are options that take precedence over *config*. Raises `ConfigurationError` for an unknown
        ``PGLISTEN_`` key, and for a wrong value.
        """
        return _config.make(cls, config, overrides)

    def listen(self, channel: str, timeout: float | None = None) -> None:
        """Listen to *channel*; return when the server has acknowledged it on the current connection.

        Waits through reconnections, at most *timeout* seconds (``None``: forever). Channel names are
        case-sensitive. Raises

        * `InvalidChannelName`: the name is empty, holds a NUL, has over 63 bytes of UTF-8, or cannot be
          encoded. After the server was asked: the database's encoding would cut or change the name;
        * `ChannelAlreadyOpen`: *channel* is in the set, acknowledged or not. After any other error it is not;
        * `ServerError`: the server refuses; `OperationTimeout`: no acknowledgement in time. During an outage,
          the ``__cause__`` is the error of the last failed attempt, or the loss;
        * `ChannelNotOpen`: ``unlisten`` was called for *channel* meanwhile; `ListenerClosed`.
        """
        calls.listen(self._require_open, channel, timeout)

    def unlisten(self, channel: str, timeout: float | None = None) -> None:
        """Stop listening to *channel*. Notifications that had arrived before are still delivered.

        Returns when the server has acknowledged it, or at once if there is no connection. Raises
        `ChannelNotOpen`, `ListenerClosed`, or `OperationTimeout` after *timeout* seconds (``None``: never).
        After `OperationTimeout`, *channel* is no longer in the set either.
        """
        calls.unlisten(self._require_open, channel, timeout)

    def unlisten_all(self, timeout: float | None = None) -> None:
        """Stop listening to all channels, by the rules of ``unlisten``; an empty set is no error."""
        calls.unlisten_all(self._require_open, timeout)

    @property
    def channels(self) -> frozenset[str]:
        """The set of channels, acknowledged or waiting to be."""
        return self._supervisor.channels.names

    # The connection

    def notify(self, channel: str, payload: str = "", timeout: float | None = None) -> None:
        """Send a notification over this connection; return when the server has committed it.

        Raises `InvalidChannelName` (see ``listen``) or `PayloadTooLong` (over 7999 bytes of UTF-8) before
        anything is sent, `NotConnected`, `ServerError` or `ListenerClosed`. After `ConnectionLost`, and after
        `OperationTimeout` (*timeout* seconds, ``None``: never), the notification may have been sent or not.
        """
        statement = notify_statement(channel, payload)
        timeout = check_timeout(timeout)
        self._require_open().require_connection().notify(statement, channel, timeout)

    def ping(self, timeout: float | None = None) -> float:
        """Make a round trip and return its seconds.

        Raises `NotConnected` if there is no connection, `ConnectionLost` if it ends meanwhile, and
        `ListenerClosed`. If no reply arrives within *timeout* seconds (``None``: as long as the heartbeat
        allows), the connection counts as lost and `OperationTimeout` is raised.
        """
        timeout = check_timeout(timeout)
        return self._require_open().require_connection().ping(timeout)

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until connected and all channels are listened to.

        Raises `ListenerClosed`, or `OperationTimeout` as ``listen`` does after *timeout* seconds.
        """
        timeout = check_timeout(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._require_open(even_closed=True).wait_connected(_remaining(deadline), timeout)
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
        return stats_of(self._supervisor)

    # The stream

    def get(self, timeout: float | None = None) -> Notification | None:
        """Return the next notification, or ``None`` for a gap: something may have been missed here.

        Raises `OperationTimeout` after *timeout* seconds (``None``: never; 0: after one turn of the event
        loop), and `ListenerClosed` after the listener was closed and the queue is empty.
        """
        timeout = check_timeout(timeout)
        queue = self._supervisor.queue
        if queue.items and self._supervisor.owner.is_here:
            return queue.get(0)  # Queued items need no wait.
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return self._require_open(even_closed=True).queue.get(_remaining(deadline), timeout)
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
            # Runs once for each item of a burst. The process was checked before the wait.
            while items and thread_ident() == owner.thread:
                item = items.popleft()
                if item is None or queue.on_room:
                    queue.consumed(item)
                yield item

    def close(self, timeout: float | None = CLOSE_GRACE) -> None:
        """Close the listener, in any state; afterwards no greenlet, socket or server session is left.

        All waiting calls raise `ListenerClosed`; queued items can still be taken. *timeout* is the seconds
        in which a running event callback must return before it is killed (``None``: no limit). Nothing else
        takes time. Closing twice is allowed. If the callback itself calls this, it returns before the
        callback does. It returns at once in the event loop and in a signal handler, if nothing can wait
        there.
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
        """Return this process's supervisor; a forked child starts its own with its first call."""
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
