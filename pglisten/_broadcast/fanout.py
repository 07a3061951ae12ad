"""Hands one listener's stream to all subscriptions of a process.

One greenlet, which `FanOut.close` stops, takes from the listener and puts into the subscriptions' queues. The
first subscription to a channel makes the listener listen to it, and the last one that leaves makes it
unlisten. Neither waits for the network to do so. `FanOut.subscribe` then waits for the acknowledgement, which
all subscriptions to the channel share. Closing or unsubscribing a subscription ends that wait as well.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import deque
from collections.abc import Collection

import gevent

from .._greenlet import Greenlet, let_others_run, spawn
from .._ownership import Owner, thread_ident
from .._queues import SubscriptionQueue, wake
from ..backend import Notification
from ..errors import ChannelAlreadyOpen, ChannelNotOpen, Error, ListenerClosed
from .shared_channel import Channels, SharedChannel, SubscribeCompletion
from .upstream import PER_WAKE, UpstreamListener

__all__ = ["FanOut", "close_all"]

PORTION = 500
"""Queues, and notifications, after which other greenlets run: about a millisecond, if all consumers wake."""

DRAIN_TIME = 0.2
"""Seconds that ``close()`` spends at most on handing out what had arrived before it."""


class FanOut:
    """Keep the subscriptions of one process, and the greenlet that fills their queues."""

    def __init__(self, upstream: UpstreamListener) -> None:
        self.upstream = upstream
        self.owner = Owner()
        self._subscriptions: dict[SubscriptionQueue, Channels] = {}
        """The channels of each subscription that is not closed."""
        self._opening: set[SubscriptionQueue] = set()
        """Those subscriptions for which `open` has not returned."""
        self._dropped = 0
        """Notifications that closed subscriptions had no room for."""
        self._channels: dict[str, SharedChannel] = {}
        self._refused: list[SharedChannel] = []
        """Channels that the server has refused after a reconnection, since the last gap."""
        self._greenlet: Greenlet | None = None
        self._ends_at: float | None = None
        """When handing out ends, by the monotonic clock; ``None`` until ``close()``."""
        self._since_turn = 0
        """How much of a ``PORTION`` was handed out since other greenlets ran."""
        self._to_close: deque[SubscriptionQueue] = deque()
        self._loop = gevent.get_hub().loop

    def start(self) -> None:
        """Start to connect and to hand out, unless it has started. Never waits."""
        if self._ends_at is not None:
            raise _closed()
        self.upstream.start()
        if self._greenlet is None:
            self._greenlet = spawn("pglisten-broadcaster", self._run)
            _started.add(self)
            # If it is killed from outside (gevent.killall): close, so that no caller waits forever.
            self._greenlet.rawlink(lambda _: self._end())

    def close(self, grace_period: float | None) -> None:
        """Close everything. A running event callback has *grace_period* seconds (``None``: no limit)."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + DRAIN_TIME
        for queue in list(self._subscriptions):
            if queue.blocked_writer is not None:
                self.close_subscription(queue, _closed())
        self.upstream.close(grace_period)
        if self._greenlet is not None and self._greenlet is not gevent.getcurrent():
            self._greenlet.join()
        self._end()

    # Who has which channels

    def open(self, queue: SubscriptionQueue, channels: Collection[str], timeout: float | None) -> None:
        """Add *queue* as a subscription and `subscribe` it to *channels*; if that fails, close it."""
        self._subscriptions[queue] = {}
        self._opening.add(queue)
        try:
            self.subscribe(queue, channels, timeout)
        except BaseException as error:
            self.close_subscription(queue, ListenerClosed(f"subscribe() failed: {error}"))
            raise
        self._opening.discard(queue)

    def subscribe(self, queue: SubscriptionQueue, channels: Collection[str], timeout: float | None) -> None:
        """Add *channels* to *queue*; return when the server has acknowledged all of them.

        After an error or a kill, *queue* has none of them. Raises `ChannelAlreadyOpen`, `OperationTimeout`
        after *timeout* seconds (``None``: never), the server's refusal, or why the subscription was closed.
        """
        call, own = SubscribeCompletion(), self._subscriptions[queue]
        try:
            for channel in channels:
                self._add(queue, own, channel, call)
            if call.unacknowledged:
                what = "LISTEN " + ", ".join(map(repr, channels))
                call.wait(timeout, what, outage=self.upstream.outage)
        except BaseException:
            for channel in channels:
                if own.get(channel) is call:
                    self.unsubscribe(queue, channel)
            raise
        for channel in channels:
            if own.get(channel) is call:
                own[channel] = None

    def _add(self, queue: SubscriptionQueue, own: Channels, channel: str, call: SubscribeCompletion) -> None:
        if channel in own:
            raise ChannelAlreadyOpen(f"the subscription has channel {channel!r} already")
        shared = self._channels.get(channel)
        if shared is not None and shared.refusal is not None:
            self._close_refused(shared)
        if shared is None or shared.failed or shared.refusal is not None:
            # Ask the server again, even if earlier callers have not been told of its refusal yet.
            shared = SharedChannel(channel, self._refused)
            self.upstream.begin_listen(channel, shared)
            self._channels[channel] = shared
        own[channel] = call
        shared.queues[queue] = None if shared.done else call
        call.unacknowledged += not shared.done

    def unsubscribe(self, queue: SubscriptionQueue, channel: str) -> None:
        """Take *channel* from *queue*. Queued items stay. Raises `ChannelNotOpen` if it does not have it."""
        own = self._subscriptions.get(queue, {})
        if channel not in own:
            raise ChannelNotOpen(f"the subscription does not have channel {channel!r}")
        unlistened = f"channel {channel!r} was unlistened while its LISTEN was waiting"
        self._remove(queue, own, channel, ChannelNotOpen(unlistened))

    def _remove(self, queue: SubscriptionQueue, own: Channels, channel: str, why: Error) -> None:
        """Take *channel* from *queue*. A call that waits for its acknowledgement raises *why*."""
        call = own.pop(channel)
        if call is not None:
            call.resolve(why)
        # The fan-out's greenlet may be waiting for room for a notification on this channel.
        queue.make_room()
        shared = self._channels.get(channel)
        if shared is not None and shared.queues.pop(queue, shared) is not shared and not shared.queues:
            del self._channels[channel]
            with contextlib.suppress(ListenerClosed):
                self.upstream.begin_unlisten(channel)

    def channels_of(self, queue: SubscriptionQueue) -> frozenset[str]:
        """Return the channels of *queue*, acknowledged or not."""
        return frozenset(self._subscriptions.get(queue, ()))

    def close_subscription(self, queue: SubscriptionQueue, error: Error) -> None:
        """End *queue* with *error* and take all its channels from it. Idempotent; never waits."""
        queue.finish(error)
        own = self._subscriptions.pop(queue, None)
        if own is not None:
            self._opening.discard(queue)
            self._dropped += queue.dropped
            assert queue.end is not None
            for channel in list(own):
                self._remove(queue, own, channel, queue.end)

    def close_subscription_later(self, queue: SubscriptionQueue) -> None:
        """Close *queue* in the event loop. Any thread may call this, at any moment, a finalizer too."""
        self._to_close.append(queue)
        if self.owner.forked:
            return
        # The loop ends with its thread. Then nothing waits or arrives any more.
        with contextlib.suppress(ValueError):
            self._loop.run_callback_threadsafe(self._close_pending)

    def _close_pending(self) -> None:
        while self._to_close and not self.owner.forked:
            self.close_subscription(self._to_close.popleft(), ListenerClosed("the subscription was closed"))

    def counts(self) -> tuple[int, int, int]:
        """Return how many subscriptions are open and how many are opening, and the notifications dropped."""
        queues, opening = list(self._subscriptions), len(self._opening)
        dropped = self._dropped + sum(queue.dropped for queue in queues)
        return len(queues) - opening, opening, dropped

    # The stream

    def _run(self) -> None:
        while self._ends_at is None or time.monotonic() < self._ends_at:
            try:
                item = self.upstream.get()
            except ListenerClosed:
                return
            if item is None:
                self._mark_gap()
            elif (shared := self._channels.get(item.channel)) is not None:
                for run in shared.runs([item, *self.upstream.following(item.channel)]):
                    self._deliver(shared, run)

    def _deliver(self, shared: SharedChannel, run: list[Notification]) -> None:
        due: list[SubscriptionQueue] = []
        put, switched = self._since_turn + 1, False
        size, cost = len(run), 1 + (len(run) - 1) // PER_WAKE
        # A copy, because subscriptions come and go while other greenlets run.
        for queue in tuple(shared.queues):
            if put >= PORTION:
                self._wake(due)
                self._let_others_run()
                due, put, switched = [], 0, True
            put += cost
            if switched and queue not in shared.queues:
                continue
            items = queue.items
            if len(items) + size <= queue.size:
                if queue.waiting and not items:
                    due.append(queue)
                items += run
            else:
                self._wake(due)
                due, switched = [], True
                self._put_singly(shared, queue, run)
        self._wake(due)
        self._since_turn = put

    def _put_singly(self, shared: SharedChannel, queue: SubscriptionQueue, run: list[Notification]) -> None:
        for notification in run:
            # If its consumer was woken and has not run: a burst must not outrun a consumer that only takes.
            if queue.waiting and len(queue.items) >= queue.size:
                self._let_others_run()
            while queue in shared.queues and not queue.put(notification):
                if self._ends_at is not None:
                    self.close_subscription(queue, _closed())
                else:
                    queue.wait_for_room()
                    self._check_process()
        if queue.end is not None:
            self.close_subscription(queue, queue.end)

    def _wake(self, queues: list[SubscriptionQueue]) -> None:
        if queues:
            self._loop.run_callback(wake, iter(queues))

    def _mark_gap(self) -> None:
        """Put a marker into each queue. Before that, end the subscriptions to channels that were refused."""
        refused = self._refused.copy()
        self._refused.clear()
        for shared in refused:
            if self._channels.get(shared.channel) is shared:
                self._close_refused(shared)
        for number, queue in enumerate(tuple(self._subscriptions), 1):
            queue.mark_gap()
            if not number % PORTION:
                self._let_others_run()

    def _close_refused(self, shared: SharedChannel) -> None:
        del self._channels[shared.channel]
        error = ChannelNotOpen(f"the server refused channel {shared.channel!r} when it was listened to again")
        error.__cause__ = shared.refusal
        queues = list(shared.queues)
        shared.queues.clear()
        for queue in queues:
            self.close_subscription(queue, error)

    def _let_others_run(self) -> None:
        let_others_run()
        self._check_process()

    def _check_process(self) -> None:
        """End this greenlet in a forked child. To be called after every wait."""
        if self.owner.forked:
            raise gevent.GreenletExit

    def _end(self) -> None:
        if self.owner.forked:
            return
        self._ends_at = 0.0
        if not self.upstream.closed:
            spawn("pglisten-broadcaster-closer", self.upstream.close, 0)
        for queue in list(self._subscriptions):
            self.close_subscription(queue, _closed())


_started: weakref.WeakSet[FanOut] = weakref.WeakSet()


def close_all(grace_period: float) -> None:
    """Close all broadcasters of this process and thread that were used.

    Running event callbacks have *grace_period* seconds each.
    """
    for fan_out in list(_started):
        if fan_out.owner.thread == thread_ident() and not fan_out.owner.forked:
            fan_out.close(grace_period)


def _closed() -> ListenerClosed:
    return ListenerClosed("the broadcaster was closed")
