"""One listener's stream, handed to every subscriber of one process.

One greenlet (owned by `FanOut.close`) takes from the listener and puts into queues. A channel is listened to
as long as somebody has it: the first to come claims it from the listener, the last to go gives it back, and
neither waits for the network to do so. Who has come waits for the claim, which all who have the channel
share; whoever ends a subscription, or takes the channel from it, ends that wait too.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import deque
from collections.abc import Collection
from typing import NamedTuple

import gevent

from .._greenlet import Greenlet, let_others_run, spawn
from .._ownership import Owner, thread_ident
from .._queues import SubscriptionQueue, wake
from ..backend import Notification
from ..errors import ChannelAlreadyOpen, ChannelNotOpen, Error, ListenerClosed
from .shared_channel import Channels, SharedChannel, SubscribeCompletion
from .upstream import UpstreamListener

__all__ = ["FanOut", "close_all"]

PORTION = 500
"""Queues, and notifications, after which the hub gets its turn: a millisecond or so, if all are woken."""

DRAIN_TIME = 0.2
"""Seconds in which what had come before ``close()`` is handed out: with many subscriptions it takes long."""


class Counts(NamedTuple):
    """The subscriptions of one process."""

    open: int
    """The server has acknowledged the channels that they began with."""
    opening: int
    """It has not yet."""
    dropped: int
    """Notifications for which there was no room, of those that are closed as well."""


class FanOut:
    """The queues of one process, and the greenlet that fills them."""

    def __init__(self, upstream: UpstreamListener) -> None:
        self.upstream = upstream
        self.owner = Owner()
        self._subscriptions: dict[SubscriptionQueue, Channels] = {}
        """Those that are not closed, and the channels of each."""
        self._opening: set[SubscriptionQueue] = set()
        """Those whose first channels the server has not acknowledged."""
        self._dropped = 0
        """Notifications that gave way in queues that are gone."""
        self._channels: dict[str, SharedChannel] = {}
        self._refused: list[SharedChannel] = []
        """Those that the server has refused, on the way back from a loss, since the last gap."""
        self._greenlet: Greenlet | None = None
        self._ends_at: float | None = None
        """When, by the monotonic clock, nothing more is handed out; ``None`` until it is closed."""
        self._since_turn = 0
        """What was put, of a ``PORTION``, since others had their turn."""
        self._to_close: deque[SubscriptionQueue] = deque()
        self._loop = gevent.get_hub().loop

    def start(self) -> None:
        """Begin to connect, and to hand out what comes; nothing if that has begun. Never waits."""
        if self._ends_at is not None:
            raise _closed()
        self.upstream.start()
        if self._greenlet is None:
            self._greenlet = spawn("pglisten-broadcaster", self._run)
            _started.add(self)
            # Killed by somebody who ends all greenlets there are: nobody shall wait in vain.
            self._greenlet.rawlink(lambda _: self._end())

    def close(self, grace_period: float | None) -> None:
        """End it; a running event callback has *grace_period* seconds."""
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
        """Begin a subscription with *channels*, by the rules of `subscribe`; if that fails it is closed."""
        self._subscriptions[queue] = {}
        self._opening.add(queue)
        try:
            self.subscribe(queue, channels, timeout)
        except BaseException as error:
            self.close_subscription(queue, ListenerClosed(f"subscribe() failed: {error}"))
            raise
        self._opening.discard(queue)

    def subscribe(self, queue: SubscriptionQueue, channels: Collection[str], timeout: float | None) -> None:
        """Give *queue* what comes on *channels*; wait until the server has acknowledged them all.

        If that fails, in whatever way, it has none of them.
        """
        call, own = SubscribeCompletion(), self._subscriptions[queue]
        try:
            for channel in channels:
                self._add(queue, own, channel, call)
            if call.unacknowledged:
                call.wait(timeout, "LISTEN " + ", ".join(map(repr, channels)))
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
            # Also where a refusal has yet to reach those who waited before: this one asks anew.
            shared = SharedChannel(channel, self._refused)
            self.upstream.begin_listen(channel, shared)
            self._channels[channel] = shared
        own[channel] = call
        shared.queues[queue] = None if shared.done else call
        call.unacknowledged += not shared.done

    def unsubscribe(self, queue: SubscriptionQueue, channel: str) -> None:
        """Give *queue* no more of *channel*; `ChannelNotOpen` if it has it not. What is queued stays."""
        own = self._subscriptions.get(queue, {})
        if channel not in own:
            raise ChannelNotOpen(f"the subscription does not have channel {channel!r}")
        unlistened = f"channel {channel!r} was unlistened while its LISTEN was waiting"
        self._remove(queue, own, channel, ChannelNotOpen(unlistened))

    def _remove(self, queue: SubscriptionQueue, own: Channels, channel: str, why: Error) -> None:
        """Take *channel* from *queue*; a call that waits for it raises *why*."""
        call = own.pop(channel)
        if call is not None:
            call.resolve(why)
        # It may be that for which the broadcaster waits for room.
        queue.make_room()
        shared = self._channels.get(channel)
        if shared is not None and shared.queues.pop(queue, shared) is not shared and not shared.queues:
            del self._channels[channel]
            with contextlib.suppress(ListenerClosed):
                self.upstream.begin_unlisten(channel)

    def channels_of(self, queue: SubscriptionQueue) -> frozenset[str]:
        """Return the channels that *queue* has, acknowledged or waiting to be."""
        return frozenset(self._subscriptions.get(queue, ()))

    def close_subscription(self, queue: SubscriptionQueue, error: Error) -> None:
        """End *queue* with *error*, and unlisten what it alone had. Idempotent."""
        queue.finish(error)
        own = self._subscriptions.pop(queue, None)
        if own is not None:
            self._opening.discard(queue)
            self._dropped += queue.dropped
            assert queue.end is not None
            for channel in list(own):
                self._remove(queue, own, channel, queue.end)

    def close_subscription_later(self, queue: SubscriptionQueue) -> None:
        """Close *queue* in the event loop. May be called by any thread and at any moment."""
        self._to_close.append(queue)
        if self.owner.forked:
            return
        # Without its loop, which a thread may have ended with, nothing waits or comes any more.
        with contextlib.suppress(ValueError):
            self._loop.run_callback_threadsafe(self._close_those_to_close)

    def _close_those_to_close(self) -> None:
        while self._to_close and not self.owner.forked:
            self.close_subscription(self._to_close.popleft(), ListenerClosed("the subscription was closed"))

    def counts(self) -> Counts:
        """Return how many subscriptions there are, and what they dropped."""
        queues, opening = list(self._subscriptions), len(self._opening)
        dropped = self._dropped + sum(queue.dropped for queue in queues)
        return Counts(len(queues) - opening, opening, dropped)

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
                self._deliver(shared, item)

    def _deliver(self, shared: SharedChannel, notification: Notification) -> None:
        due: list[SubscriptionQueue] = []
        put, switched = self._since_turn + 1, False
        # A copy: they come and go while others have their turn.
        for queue in tuple(shared.queues):
            if put >= PORTION:
                self._wake(due)
                self._let_others_run()
                due, put, switched = [], 0, True
            put += 1
            if switched and queue not in shared.queues:
                continue
            items = queue.items
            if len(items) < queue.size:
                if queue.waiting and not items:
                    due.append(queue)
                items.append(notification)
            else:
                self._wake(due)
                due, switched = [], True
                self._put_without_room(shared, queue, notification)
        self._wake(due)
        self._since_turn = put

    def _put_without_room(
        self, shared: SharedChannel, queue: SubscriptionQueue, notification: Notification
    ) -> None:
        if queue.waiting:
            # Woken, and had no turn yet: a burst must not outrun those who do nothing but take.
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
        """Tell everybody; and whose channel the server has refused on the way back, that it ends."""
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
        """Go no further in a forked child: after every wait."""
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
    """Close those of this process and thread; running event callbacks have *grace_period* seconds each."""
    for fan_out in list(_started):
        if fan_out.owner.thread == thread_ident() and not fan_out.owner.forked:
            fan_out.close(grace_period)


def _closed() -> ListenerClosed:
    return ListenerClosed("the broadcaster was closed")
