"""What a stream takes its items from: a subscription, or a follower of a log."""

from __future__ import annotations

from typing import Final

from .._broadcast.subscription import queued
from .._deadline import Deadline
from .._eventlog.bookmark import Nothing
from .._eventlog.follower import miss_what_was_trimmed, skip_to_newest, take_now
from ..broadcast import Subscription
from ..errors import ConfigurationError, Error
from ..eventlog import EventLog, Follower
from .form import Item
from .resume import Start

__all__ = ["NOTHING", "FollowerSource", "Source", "SubscriptionSource", "begin_following", "rounded"]

NOTHING: Final = Nothing.NEW
"""What `take` returns if there is nothing to take without waiting."""


class SubscriptionSource:
    """The notifications of a subscription. What a client misses is lost, so it gets a gap."""

    __slots__ = ("_subscription", "close", "get")

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription
        self.get = subscription.get
        self.close = subscription.close

    @property
    def position(self) -> int | None:
        """``None``: a stream of notifications cannot resume."""
        return None

    @property
    def closed(self) -> bool:
        """Whether it has ended. What is queued can still be taken."""
        return self._subscription.closed

    def take(self) -> Item | Nothing | None:
        """Return the next item if it is there, else ``NOTHING``."""
        # With an empty queue get() would let other greenlets run, and would delay the chunk.
        if not queued(self._subscription):
            return NOTHING
        try:
            return self._subscription.get(0)
        except Error:
            return NOTHING  # Another consumer took the item, or on_gap raised: the next get() raises again.

    def skip(self) -> None:
        """Do nothing: what was missed at a gap is not there."""

    def __repr__(self) -> str:
        return repr(self._subscription)


class FollowerSource:
    """The entries of a log. A client that was away resumes after the last one that it has had."""

    __slots__ = ("_follower", "close", "get")

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self.get = follower.get
        self.close = follower.close

    @property
    def position(self) -> int | None:
        """The position up to which the stream has had all entries."""
        return self._follower.position

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._follower.closed

    def take(self) -> Item | Nothing | None:
        """Return the next item if it is there, else ``NOTHING``."""
        return take_now(self._follower)

    def skip(self) -> None:
        """Continue with the newest at a gap: the client loads its state, which has all up to there."""
        skip_to_newest(self._follower)

    def __repr__(self) -> str:
        return repr(self._follower)


Source = SubscriptionSource | FollowerSource


def rounded(deadline: Deadline) -> float:
    """Return the seconds left, without the digits that no reader of a log needs."""
    return float(f"{deadline.remaining() or 0.0:.2g}")


def begin_following(
    log: EventLog, channels: list[str], start: Start, queue_size: int, timeout: float
) -> tuple[FollowerSource, bool]:
    """Return the entries of *log* from *start*, and whether some may be missing before the first.

    Raises what `EventLog.follow` does. A position beyond the newest one is another log's: it is no error.
    """
    deadline = Deadline(timeout)
    if start.after is not None:
        try:
            follower = log.follow(*channels, after=start.after, queue_size=queue_size, timeout=timeout)
        except ConfigurationError as error:
            if error.option != "after":
                raise
        else:
            miss_what_was_trimmed(follower)
            return FollowerSource(follower), False
    follower = log.follow(*channels, queue_size=queue_size, timeout=rounded(deadline))
    return FollowerSource(follower), start != Start(None, missing=False)
