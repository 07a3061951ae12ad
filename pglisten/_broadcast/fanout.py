"""One listener's stream, handed to every subscriber of one process.

One greenlet (owned by `FanOut.close`) takes from the listener and puts into inboxes. A channel is listened to
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
"""Inboxes, and notifications, after which the hub gets its turn: a millisecond or so, if all are woken."""

LAST = 0.2
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
    """The inboxes of one process, and the greenlet that fills them."""

    def __init__(self, feed: UpstreamListener) -> None:
        self.feed = feed
        self.home = Owner()
        self._subscriptions: dict[SubscriptionQueue, Channels] = {}
        """Those that are not closed, and the channels of each."""
        self._opening: set[SubscriptionQueue] = set()
        """Those whose first channels the server has not acknowledged."""
        self._dropped = 0
        """Notifications that gave way in inboxes that are gone."""
        self._topics: dict[str, SharedChannel] = {}
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
        self.feed.start()
        if self._greenlet is None:
            self._greenlet = spawn("pglisten-broadcaster", self._run)
            _started.add(self)
            # Killed by somebody who ends all greenlets there are: nobody shall wait in vain.
            self._greenlet.rawlink(lambda _: self._end())

    def close(self, grace: float | None) -> None:
        """End it; a running event callback has *grace* seconds."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + LAST
        for inbox in list(self._subscriptions):
            if inbox.wanted is not None:
                self.close_subscription(inbox, _closed())
        self.feed.close(grace)
        if self._greenlet is not None and self._greenlet is not gevent.getcurrent():
            self._greenlet.join()
        self._end()

    # Who has which channels

    def open(self, inbox: SubscriptionQueue, channels: Collection[str], timeout: float | None) -> None:
        """Begin a subscription with *channels*, by the rules of `subscribe`; if that fails it is closed."""
        self._subscriptions[inbox] = {}
        self._opening.add(inbox)
        try:
            self.subscribe(inbox, channels, timeout)
        except BaseException as error:
            self.close_subscription(inbox, ListenerClosed(f"subscribe() failed: {error}"))
            raise
        self._opening.discard(inbox)

    def subscribe(self, inbox: SubscriptionQueue, channels: Collection[str], timeout: float | None) -> None:
        """Give *inbox* what comes on *channels*; wait until the server has acknowledged them all.

        If that fails, in whatever way, it has none of them.
        """
        call, own = SubscribeCompletion(), self._subscriptions[inbox]
        try:
            for channel in channels:
                self._add(inbox, own, channel, call)
            if call.missing:
                call.wait(timeout, "LISTEN " + ", ".join(map(repr, channels)))
        except BaseException:
            for channel in channels:
                if own.get(channel) is call:
                    self.unsubscribe(inbox, channel)
            raise
        for channel in channels:
            if own.get(channel) is call:
                own[channel] = None

    def _add(self, inbox: SubscriptionQueue, own: Channels, channel: str, call: SubscribeCompletion) -> None:
        if channel in own:
            raise ChannelAlreadyOpen(f"the subscription has channel {channel!r} already")
        topic = self._topics.get(channel)
        if topic is not None and topic.refusal is not None:
            self._close_refused(topic)
        if topic is None or topic.failed or topic.refusal is not None:
            # Also where a refusal has yet to reach those who waited before: this one asks anew.
            topic = SharedChannel(channel, self._refused)
            self.feed.begin_listen(channel, topic)
            self._topics[channel] = topic
        own[channel] = call
        topic.inboxes[inbox] = None if topic.done else call
        call.missing += not topic.done

    def unsubscribe(self, inbox: SubscriptionQueue, channel: str) -> None:
        """Give *inbox* no more of *channel*; `ChannelNotOpen` if it has it not. What is queued stays."""
        own = self._subscriptions.get(inbox, {})
        if channel not in own:
            raise ChannelNotOpen(f"the subscription does not have channel {channel!r}")
        unlistened = f"channel {channel!r} was unlistened while its LISTEN was waiting"
        self._remove(inbox, own, channel, ChannelNotOpen(unlistened))

    def _remove(self, inbox: SubscriptionQueue, own: Channels, channel: str, why: Error) -> None:
        """Take *channel* from *inbox*; a call that waits for it raises *why*."""
        call = own.pop(channel)
        if call is not None:
            call.resolve(why)
        # It may be that for which the broadcaster waits for room.
        inbox.make_room()
        topic = self._topics.get(channel)
        if topic is not None and topic.inboxes.pop(inbox, topic) is not topic and not topic.inboxes:
            del self._topics[channel]
            with contextlib.suppress(ListenerClosed):
                self.feed.begin_unlisten(channel)

    def channels_of(self, inbox: SubscriptionQueue) -> frozenset[str]:
        """Return the channels that *inbox* has, acknowledged or waiting to be."""
        return frozenset(self._subscriptions.get(inbox, ()))

    def close_subscription(self, inbox: SubscriptionQueue, error: Error) -> None:
        """End *inbox* with *error*, and unlisten what it alone had. Idempotent."""
        inbox.finish(error)
        own = self._subscriptions.pop(inbox, None)
        if own is not None:
            self._opening.discard(inbox)
            self._dropped += inbox.dropped
            assert inbox.end is not None
            for channel in list(own):
                self._remove(inbox, own, channel, inbox.end)

    def close_subscription_later(self, inbox: SubscriptionQueue) -> None:
        """Close *inbox* in the event loop. May be called by any thread and at any moment."""
        self._to_close.append(inbox)
        if self.home.forked:
            return
        # Without its loop, which a thread may have ended with, nothing waits or comes any more.
        with contextlib.suppress(ValueError):
            self._loop.run_callback_threadsafe(self._close_those_to_close)

    def _close_those_to_close(self) -> None:
        while self._to_close and not self.home.forked:
            self.close_subscription(self._to_close.popleft(), ListenerClosed("the subscription was closed"))

    def counts(self) -> Counts:
        """Return how many subscriptions there are, and what they dropped."""
        inboxes, opening = list(self._subscriptions), len(self._opening)
        dropped = self._dropped + sum(inbox.dropped for inbox in inboxes)
        return Counts(len(inboxes) - opening, opening, dropped)

    # The stream

    def _run(self) -> None:
        while self._ends_at is None or time.monotonic() < self._ends_at:
            try:
                item = self.feed.get()
            except ListenerClosed:
                return
            if item is None:
                self._mark_gap()
            elif (topic := self._topics.get(item.channel)) is not None:
                self._deliver(topic, item)

    def _deliver(self, topic: SharedChannel, notification: Notification) -> None:
        due: list[SubscriptionQueue] = []
        put, switched = self._since_turn + 1, False
        # A copy: they come and go while others have their turn.
        for inbox in tuple(topic.inboxes):
            if put >= PORTION:
                self._wake(due)
                self._let_others_run()
                due, put, switched = [], 0, True
            put += 1
            if switched and inbox not in topic.inboxes:
                continue
            items = inbox.items
            if len(items) < inbox.size:
                if inbox.waiting and not items:
                    due.append(inbox)
                items.append(notification)
            else:
                self._wake(due)
                due, switched = [], True
                self._put_without_room(topic, inbox, notification)
        self._wake(due)
        self._since_turn = put

    def _put_without_room(
        self, topic: SharedChannel, inbox: SubscriptionQueue, notification: Notification
    ) -> None:
        if inbox.waiting:
            # Woken, and had no turn yet: a burst must not outrun those who do nothing but take.
            self._let_others_run()
        while inbox in topic.inboxes and not inbox.put(notification):
            if self._ends_at is not None:
                self.close_subscription(inbox, _closed())
            else:
                inbox.wait_for_room()
                self._check_process()
        if inbox.end is not None:
            self.close_subscription(inbox, inbox.end)

    def _wake(self, inboxes: list[SubscriptionQueue]) -> None:
        if inboxes:
            self._loop.run_callback(wake, iter(inboxes))

    def _mark_gap(self) -> None:
        """Tell everybody; and whose channel the server has refused on the way back, that it ends."""
        refused = self._refused.copy()
        self._refused.clear()
        for topic in refused:
            if self._topics.get(topic.channel) is topic:
                self._close_refused(topic)
        for number, inbox in enumerate(tuple(self._subscriptions), 1):
            inbox.mark_gap()
            if not number % PORTION:
                self._let_others_run()

    def _close_refused(self, topic: SharedChannel) -> None:
        del self._topics[topic.channel]
        error = ChannelNotOpen(f"the server refused channel {topic.channel!r} when it was listened to again")
        error.__cause__ = topic.refusal
        inboxes = list(topic.inboxes)
        topic.inboxes.clear()
        for inbox in inboxes:
            self.close_subscription(inbox, error)

    def _let_others_run(self) -> None:
        let_others_run()
        self._check_process()

    def _check_process(self) -> None:
        """Go no further in a forked child: after every wait."""
        if self.home.forked:
            raise gevent.GreenletExit

    def _end(self) -> None:
        if self.home.forked:
            return
        self._ends_at = 0.0
        if not self.feed.closed:
            spawn("pglisten-broadcaster-closer", self.feed.close, 0)
        for inbox in list(self._subscriptions):
            self.close_subscription(inbox, _closed())


_started: weakref.WeakSet[FanOut] = weakref.WeakSet()


def close_all(grace: float) -> None:
    """Close those of this process and thread; running event callbacks have *grace* seconds each."""
    for fan in list(_started):
        if fan.home.thread == thread_ident() and not fan.home.forked:
            fan.close(grace)


def _closed() -> ListenerClosed:
    return ListenerClosed("the broadcaster was closed")
