"""Many subscriptions in one process over one connection.

A `Broadcaster` has one `Listener` and hands each notification to every `Subscription` to its channel. Use it
if many greenlets each need all notifications, for instance one greenlet per open event stream. One connection
per process serves thousands of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, TypeVar

import gevent

from ._broadcast.fanout import FanOut
from ._broadcast.stats import BroadcasterStats
from ._broadcast.subscription import Subscription, check_overflow
from ._broadcast.upstream import UpstreamListener
from ._completion import check_timeout
from ._connection.live import LiveConnection
from ._conninfo.urls import Dsn
from ._consumers.consumer import Consumer
from ._consumers.registry import Consumers
from ._consumers.stream import Stream
from ._deadline import Deadline
from ._listener import config as _config
from ._listener.events import EventCallback
from ._listener.settings import DEFAULTS, ListenerOptions, ListenerOverflow, OptionOverrides
from ._may_wait import check_may_wait, close_or_begin_to
from ._options import on_gap as check_on_gap
from ._options import queue_size as check_queue_size
from ._queues import SubscriptionQueue
from ._sql import check_channel, notify_statement
from .backend import Backend, Notification
from .errors import ConfigurationError, ListenerClosed
from .listener import CLOSE_GRACE

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Broadcaster", "BroadcasterStats", "Subscription"]

Made = TypeVar("Made", bound="Broadcaster")
Handler = TypeVar("Handler", bound=Callable[[Notification], object])


class Broadcaster:
    """Hand one listener's notifications to any number of subscriptions.

    The options are those of `Listener` and are checked at once. A broadcaster connects on its first use in
    each process. After a fork, the child gets a connection of its own and none of the parent's subscriptions.
    The connection listens to a channel while a subscription has it.

    Raises `ConfigurationError` for a wrong option, DSN or backend name.
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
        self._options = ListenerOptions(
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
        settings = self._options.check()
        self._fan_out = FanOut(UpstreamListener(settings))
        self._consumers = Consumers(self.start, settings)

    @classmethod
    def from_config(cls: type[Made], config: object, **overrides: Unpack[OptionOverrides]) -> Made:
        """Make one from *config*, with the keys of `Listener.from_config`."""
        return _config.make(cls, config, overrides)

    def subscribe(
        self,
        *channels: str,
        queue_size: int = 256,
        overflow: Literal["drop_oldest", "close", "block"] = "drop_oldest",
        on_gap: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> Subscription:
        """Return a subscription to *channels* when the server has acknowledged all of them.

        Every notification committed on them from then on is delivered, or a ``None`` stands in its place.
        *overflow* says what happens if *queue_size* notifications wait in the queue already:

        * ``"drop_oldest"``: one ``None`` replaces the oldest notifications;
        * ``"close"``: the subscription ends with `SubscriptionOverflow`;
        * ``"block"``: all subscriptions wait for this one. Use it if none may get ahead of this one.

        *on_gap* is called without arguments in the consumer's greenlet, in ``get()``: before the first
        notification, and for each ``None`` before it is returned. So the state that it reads is read while
        LISTEN is in force. If it raises, ``get()`` raises the error, and the next ``get()`` calls it again.

        Waits through reconnections, at most *timeout* seconds (``None``: forever). Raises
        `ConfigurationError`, and what ``Listener.listen`` raises except `ChannelAlreadyOpen`: subscriptions
        may share a channel.
        """
        timeout = check_timeout(timeout)
        queue = SubscriptionQueue(check_queue_size(queue_size), check_overflow(overflow))
        check_on_gap(on_gap)
        names = dict.fromkeys(map(check_channel, channels))
        fan_out = self._require_open()
        fan_out.start()
        check_may_wait()
        subscription = Subscription(fan_out, queue, on_gap)
        fan_out.open(queue, names, timeout)
        return subscription

    def on(
        self, *channels: str, on_gap: Callable[[], object] | None = None, queue_size: int = 256
    ) -> Callable[[Handler], Handler]:
        """Return a decorator for a function that each process calls with every notification on *channels*.

        It only notes the function, so use it at import. `start`, or a hook of `pglisten.gunicorn`, starts a
        greenlet for it, which subscribes to *channels* with *queue_size*. Notifications come one at a time,
        in order.

        *on_gap* is called without arguments before the first notification, and where some may be missing:
        after a reconnection, after an overflow of the queue, and after the function has raised. Then the
        function gets the next notification, and never the same one again. An error is logged and counted;
        the next attempt comes after ``min_reconnect_interval``, and later after each further failure, up to
        ``max_reconnect_interval``. GreenletExit ends the function's greenlet.

        Raises `InvalidChannelName`, `ConfigurationError` without a channel or for a wrong option, and
        `ListenerClosed`.
        """
        names, size = tuple(dict.fromkeys(map(check_channel, channels))), check_queue_size(queue_size)
        check_on_gap(on_gap)
        if not names:
            raise ConfigurationError("on() needs a channel", option="channels")

        def subscribe() -> Subscription:
            return self.subscribe(*names, queue_size=size)

        def begin(consumer: Consumer, function: Handler) -> Stream:
            return Stream(consumer, subscribe, function, on_gap, lambda: self.closed)

        return self._consumers.decorator(begin)

    def start(self) -> None:
        """Start the functions that ``on()`` has noted, also those of event logs, in this process.

        Functions that are noted later start at once. Never waits, and does nothing if they run. A forked
        child starts its own. gunicorn's workers do by a hook of `pglisten.gunicorn`; call this elsewhere, in
        the process and thread that serves.
        """
        self._require_open()
        self._consumers.start()

    def notify(self, channel: str, payload: str = "", timeout: float | None = None) -> None:
        """Send a notification over the same connection; see `Listener.notify`.

        If this is the first use, it first waits until an attempt to connect has succeeded or failed.
        """
        statement = notify_statement(channel, payload)
        timeout = check_timeout(timeout)
        deadline = Deadline(timeout)
        connection = self._connection_by(deadline)
        connection.notify(statement, channel, deadline.remaining(), stated=timeout)

    def ping(self, timeout: float | None = None) -> float:
        """Make a round trip and return its seconds; see `Listener.ping`."""
        timeout = check_timeout(timeout)
        deadline = Deadline(timeout)
        return self._connection_by(deadline).ping(deadline.remaining(), stated=timeout)

    def wait_connected(self, timeout: float | None = None) -> None:
        """Wait until connected and all channels are listened to; see `Listener.wait_connected`."""
        timeout = check_timeout(timeout)
        fan_out = self._require_open()
        fan_out.start()
        check_may_wait()
        fan_out.upstream.wait_connected(timeout)

    @property
    def channels(self) -> frozenset[str]:
        """The channels of this process's subscriptions."""
        return frozenset() if self._fan_out.owner.forked else self._fan_out.upstream.channels

    @property
    def connected(self) -> bool:
        """Whether there is a connection with all channels listened to."""
        return not self._fan_out.owner.forked and self._fan_out.upstream.connected

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called."""
        return self._fan_out.upstream.closed

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._fan_out.upstream.backend

    def stats(self) -> BroadcasterStats:
        """Return the figures of this moment, in this process."""
        fan_out = self._fan_out
        if fan_out.owner.forked:
            return BroadcasterStats()
        figures = fan_out.upstream.stats()
        subscriptions, waiting, dropped = fan_out.counts()
        consumers, failures = self._consumers.counts()
        return BroadcasterStats(
            **{field.name: getattr(figures, field.name) for field in dataclasses.fields(figures)},
            subscriptions=subscriptions,
            subscriptions_waiting=waiting,
            subscriptions_dropped=dropped,
            consumers=consumers,
            consumer_failures=failures,
        )

    def close(self, timeout: float | None = CLOSE_GRACE) -> None:
        """Close it and its subscriptions. Afterwards no greenlet, socket or server session is left.

        Queued items can still be consumed; then iteration of a subscription ends. Functions of ``on()`` get
        nothing more. *timeout* is that of `Listener.close`, also for such a function that runs. Returns at
        once in the event loop and in a signal handler, as that does.
        """
        timeout = check_timeout(timeout)
        if not (self.closed and self._fan_out.owner.forked):
            self._require_open(even_closed=True)
            close_or_begin_to(self._close, timeout)

    def _close(self, timeout: float | None) -> None:
        deadline = Deadline(timeout)
        self._consumers.stop(timeout)
        self._require_open(even_closed=True).close(deadline.remaining())

    def __enter__(self) -> Broadcaster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        upstream, stats = self._fan_out.upstream, self.stats()
        pid = "" if stats.server_pid is None else f" server_pid={stats.server_pid}"
        return (
            f"<Broadcaster {upstream.state} backend={upstream.backend} channels={len(upstream.channels)}"
            f"{pid} subscriptions={stats.subscriptions}>"
        )

    def _require_open(self, *, even_closed: bool = False) -> FanOut:
        """Return the fan-out of this process. A forked child begins with a new one."""
        fan_out = self._fan_out
        if fan_out.owner.forked:
            if fan_out.upstream.closed:
                raise _closed()
            # After os.fork() in an unpatched process, the child still has the parent's event loop.
            gevent.reinit()
            fan_out = self._fan_out = FanOut(UpstreamListener(self._options.check()))
        fan_out.owner.check_thread()
        if fan_out.upstream.closed and not even_closed:
            raise _closed()
        return fan_out

    def _connection_by(self, deadline: Deadline) -> LiveConnection:
        """Return the connection, after the first attempt to connect; wait for it until *deadline*."""
        fan_out = self._require_open()
        fan_out.start()
        check_may_wait()
        return fan_out.upstream.connection_by(deadline)


def outage_of(broadcaster: Broadcaster) -> Exception | None:
    """Return the last error of the outage that is still on; ``None`` if there is none."""
    return broadcaster._fan_out.upstream.outage()  # pyright: ignore[reportPrivateUsage]


def _closed() -> ListenerClosed:
    return ListenerClosed("the broadcaster was closed")
