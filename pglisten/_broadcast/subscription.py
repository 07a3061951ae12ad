"""What `Broadcaster.subscribe` returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from .._completion import check_timeout
from .._may_wait import calls_back, check_may_wait, check_uninterrupted, interrupts
from .._ownership import thread_ident
from .._queues import Overflow, SubscriptionQueue
from .._sql import check_channel
from ..backend import Notification
from ..errors import ConfigurationError, ListenerClosed, copy_for_raise
from .fanout import FanOut

__all__ = ["Subscription", "check_overflow", "put_into", "queued"]

START = object()
"""The reason to call ``on_gap`` before the first item. Each gap is a reason of its own."""


class Subscription:
    """Receive all notifications on some channels, independently of other subscriptions.

    `Broadcaster.subscribe` makes one. Iterate it, or call `get`: it returns `Notification` tuples in the
    server's order, and ``None`` where notifications may be missing. Adjoining ``None`` are merged into one.
    A subscription ends with `close`, with its ``with`` block, or when it is garbage-collected. It belongs to
    its process: after a fork, the child's copy is closed.
    """

    __slots__ = ("__weakref__", "_fan_out", "_on_gap", "_pending", "_queue")

    def __init__(
        self, fan_out: FanOut, queue: SubscriptionQueue, on_gap: Callable[[], object] | None
    ) -> None:
        self._fan_out = fan_out
        self._queue = queue
        self._on_gap = on_gap
        self._pending: object | None = None if on_gap is None else START
        """Why ``on_gap`` must be called before the next item: ``START``, or another object for each gap."""

    def get(self, timeout: float | None = None) -> Notification | None:
        """Return the next notification, or ``None`` for a gap: notifications may be missing here.

        Raises `OperationTimeout` after *timeout* seconds (``None``: never; 0: after one turn of the event
        loop). When the subscription has ended and the queue is empty, raises why it ended: `ListenerClosed`,
        `SubscriptionOverflow`, or `ChannelNotOpen` if the server refused one of its channels after a
        reconnection. Errors of ``on_gap`` are raised unchanged.
        """
        # Ten thousand subscriptions may do this for each notification, so it makes few calls.
        if timeout is not None:
            timeout = check_timeout(timeout)
        owner, queue = self._fan_out.owner, self._queue
        if owner.thread != thread_ident():
            self._check_owner()
        if self._pending is not None and self._catch_up() is not START:
            return None
        items = queue.items
        if not items:
            queue.wait(timeout)
            if not owner.thread:  # In a forked child, this is the copy of a greenlet that waited.
                self._check_owner()
        item = items.popleft()
        if queue.blocked_writer is not None:
            queue.make_room()
        if item is None and self._on_gap is not None:
            self._pending = object()
            self._catch_up()
        return item

    def __iter__(self) -> Iterator[Notification | None]:
        """Iterate over what ``get()`` returns, until the subscription is closed and its queue is empty."""
        while True:
            try:
                item = self.get()
            except ListenerClosed:
                if not self.closed:
                    raise  # Thrown in from outside, or raised by on_gap.
                return
            yield item

    def listen(self, channel: str, timeout: float | None = None) -> None:
        """Add *channel*; return when the server has acknowledged it.

        Raises what ``subscribe`` raises, and `ChannelAlreadyOpen` if the subscription has *channel*.
        *timeout* is in seconds; ``None`` waits forever.
        """
        check_channel(channel)
        timeout = check_timeout(timeout)
        check_may_wait()
        self._require_open().subscribe(self._queue, (channel,), timeout)

    def unlisten(self, channel: str) -> None:
        """Remove *channel*. Queued notifications are still delivered. Never waits.

        Raises `ChannelNotOpen` if the subscription does not have *channel*.
        """
        check_channel(channel)
        check_uninterrupted()
        self._require_open().unsubscribe(self._queue, channel)

    @property
    def channels(self) -> frozenset[str]:
        """The channels of this subscription, acknowledged or not."""
        return self._fan_out.channels_of(self._queue)

    @property
    def dropped(self) -> int:
        """Notifications for which the queue had no room."""
        return self._queue.dropped

    @property
    def closed(self) -> bool:
        """Whether the subscription has ended, for any reason. Queued items can still be consumed."""
        return self._queue.end is not None or self._fan_out.owner.forked

    def close(self) -> None:
        """End the subscription. Queued items can still be consumed. Idempotent; never waits.

        In a signal handler that has interrupted pglisten, it ends a moment later, in the event loop.
        """
        if self._fan_out.owner.forked:
            return
        self._fan_out.owner.check_thread()
        if interrupts():
            self._fan_out.close_subscription_later(self._queue)
        else:
            self._fan_out.close_subscription(self._queue, ListenerClosed("the subscription was closed"))

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._queue.end is None:
            self._fan_out.close_subscription_later(self._queue)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Subscription {state} channels={len(self.channels)} queued={queued(self)}>"

    @calls_back
    def _catch_up(self) -> object:
        """Call ``on_gap`` and return the reason. The reason stays pending until the call has returned."""
        queue, reason = self._queue, self._pending
        if queue.end is not None and not queue.items:
            raise copy_for_raise(queue.end)
        assert self._on_gap is not None
        self._on_gap()
        # Another consumer may have taken another gap meanwhile, which this call did not cover.
        if self._pending is reason:
            self._pending = None
        return reason

    def _check_owner(self) -> None:
        owner = self._fan_out.owner
        if owner.forked:
            raise ListenerClosed("the subscription belongs to the parent process: subscribe in this one")
        owner.check_thread()

    def _require_open(self) -> FanOut:
        self._check_owner()
        if self._queue.end is not None:
            raise ListenerClosed("the subscription was closed") from self._queue.end
        return self._fan_out


def put_into(subscription: Subscription, notification: Notification) -> None:
    """Put what no server has sent into the queue, and wake the consumer. Never switches greenlets."""
    subscription._queue.put(notification)  # pyright: ignore[reportPrivateUsage]


def queued(subscription: Subscription) -> int:
    """Return how many notifications and gap markers can be consumed without waiting."""
    return len(subscription._queue.items)  # pyright: ignore[reportPrivateUsage]


def check_overflow(overflow: str) -> Overflow:
    """Return *overflow*, or raise `ConfigurationError`."""
    try:
        return Overflow(overflow)
    except ValueError:
        raise ConfigurationError(
            f"overflow is 'drop_oldest', 'close' or 'block', not {overflow!r}", option="overflow"
        ) from None
