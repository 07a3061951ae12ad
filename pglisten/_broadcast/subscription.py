"""One subscriber's end of a broadcaster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType

from .._completion import check_timeout
from .._may_wait import calls_back, check_may_wait, check_uninterrupted, interrupts
from .._ownership import thread_ident
from .._queues import SubscriptionQueue
from .._sql import check_channel
from ..backend import Notification
from ..errors import ListenerClosed, copy_for_raise
from .fanout import FanOut

__all__ = ["Subscription", "queued"]

START = object()
"""The reason to call ``on_gap`` before anything was taken; a gap has one of its own."""


class Subscription:
    """What comes on some channels, for one subscriber; see `Broadcaster.subscribe`.

    Iterate it, or call `get`, for `Notification` tuples in the server's order, and ``None`` where something
    may have been missed; several that nothing stands between are one. It is released when it is closed, at
    the end of a ``with`` block, or once nobody refers to it. It belongs to its process: after a fork, the
    child's copy is closed.
    """

    __slots__ = ("__weakref__", "_fan_out", "_on_gap", "_pending", "_queue")

    def __init__(
        self, fan_out: FanOut, queue: SubscriptionQueue, on_gap: Callable[[], object] | None
    ) -> None:
        self._fan_out = fan_out
        self._queue = queue
        self._on_gap = on_gap
        self._pending: object | None = None if on_gap is None else START
        """Why ``on_gap`` has to be called before anything else: something else for each gap."""

    def get(self, timeout: float | None = None) -> Notification | None:
        """Return the next notification, or ``None`` for a gap: something may have been missed here.

        Raises `OperationTimeout` after *timeout* seconds (``None``: never; 0: after one turn of the event
        loop), and why it has ended once the queue is empty: `ListenerClosed`, `SubscriptionOverflow`, or
        `ChannelNotOpen` where the server has refused one of its channels on the way back from a loss. What
        ``on_gap`` raises comes as it is.
        """
        # Each of ten thousand does this for each notification: no more calls than it takes.
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
            if not owner.thread:  # This is a forked child's copy of who waited.
                self._check_owner()
        item = items.popleft()
        if queue.blocked_writer is not None:
            queue.make_room()
        if item is None and self._on_gap is not None:
            self._pending = object()
            self._catch_up()
        return item

    def __iter__(self) -> Iterator[Notification | None]:
        """Iterate over what ``get()`` returns, until it is closed and the queue is empty."""
        while True:
            try:
                item = self.get()
            except ListenerClosed:
                if not self.closed:
                    raise  # Thrown in from outside, or out of on_gap.
                return
            yield item

    def listen(self, channel: str, timeout: float | None = None) -> None:
        """Add *channel*, by the rules of ``subscribe``; `ChannelAlreadyOpen` if it has it."""
        check_channel(channel)
        timeout = check_timeout(timeout)
        check_may_wait()
        self._open().subscribe(self._queue, (channel,), timeout)

    def unlisten(self, channel: str) -> None:
        """Drop *channel*; `ChannelNotOpen` if it has it not. What is queued still comes. Never waits."""
        check_channel(channel)
        check_uninterrupted()
        self._open().unsubscribe(self._queue, channel)

    @property
    def channels(self) -> frozenset[str]:
        """The channels that it has, acknowledged or waiting to be."""
        return self._fan_out.channels_of(self._queue)

    @property
    def dropped(self) -> int:
        """Notifications for which there was no room."""
        return self._queue.dropped

    @property
    def closed(self) -> bool:
        """Whether it has ended, for whatever reason; what is queued can still be taken."""
        return self._queue.end is not None or self._fan_out.owner.forked

    def close(self) -> None:
        """End it, and give its channels back. What is queued can still be taken. Idempotent; never waits.

        In a signal handler that has interrupted pglisten it ends a moment later, in the event loop.
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
        """Call ``on_gap``; return what for. It stays pending until it has returned."""
        queue, reason = self._queue, self._pending
        if queue.end is not None and not queue.items:
            raise copy_for_raise(queue.end)
        assert self._on_gap is not None
        self._on_gap()
        # Another consumer may have met another gap meanwhile, of which this call knew nothing.
        if self._pending is reason:
            self._pending = None
        return reason

    def _check_owner(self) -> None:
        owner = self._fan_out.owner
        if owner.forked:
            raise ListenerClosed("the subscription is its parent process's: subscribe in this one")
        owner.check_thread()

    def _open(self) -> FanOut:
        self._check_owner()
        if self._queue.end is not None:
            raise ListenerClosed("the subscription was closed") from self._queue.end
        return self._fan_out


def queued(subscription: Subscription) -> int:
    """Return how many notifications and gap markers can be taken without waiting."""
    return len(subscription._queue.items)  # pyright: ignore[reportPrivateUsage]
