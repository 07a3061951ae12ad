"""The channels that subscriptions share, and the calls that wait for their acknowledgement."""

from __future__ import annotations

from typing import TypeAlias

from .._completion import Completion
from .._queues import Overflow, SubscriptionQueue
from ..backend import Notification

__all__ = ["Channels", "SharedChannel", "SubscribeCompletion"]


class SubscribeCompletion(Completion):
    """Wait until the server has acknowledged all channels of one ``subscribe()`` or ``listen()``."""

    __slots__ = ("unacknowledged",)

    def __init__(self) -> None:
        super().__init__()
        self.unacknowledged = 0
        """Channels that the server has not acknowledged."""

    def channel_done(self, error: Exception | None) -> None:
        """Note the server's answer for one channel: ``None`` for an acknowledgement."""
        self.unacknowledged -= 1
        if error is not None or not self.unacknowledged:
            self.resolve(error)


Channels: TypeAlias = dict[str, SubscribeCompletion | None]
"""A subscription's channels. The value is the call that adds the channel, until that call returns."""


class SharedChannel(Completion):
    """A channel and the subscriptions to it. The listener's channel table resolves it."""

    __slots__ = ("_refused", "channel", "queues", "refusal")

    def __init__(self, channel: str, refused: list[SharedChannel]) -> None:
        super().__init__()
        self._refused = refused
        self.channel = channel
        self.queues: dict[SubscriptionQueue, SubscribeCompletion | None] = {}
        """The subscriptions' queues. The value is the call that waits for the acknowledgement, if any."""
        self.refusal: Exception | None = None
        """Why the server refused it after a reconnection; ``None`` if it did not."""

    def runs(self, notifications: list[Notification]) -> list[list[Notification]]:
        """Return *notifications* as one run; each alone if the broadcaster would wait for a queue's room."""
        for queue in self.queues if len(notifications) > 1 else ():
            if queue.overflow is Overflow.BLOCK and len(queue.items) + len(notifications) > queue.size:
                return [[each] for each in notifications]
        return [notifications]

    def resolve(self, error: Exception | None = None) -> None:
        """Note the server's answer, to the first LISTEN or to one after a reconnection."""
        if self.done:
            self.refusal = error
            if self.queues:  # Otherwise its last subscription has left, and it is being unlistened.
                self._refused.append(self)
            return
        super().resolve(error)
        for queue, call in self.queues.items():
            if call is not None:
                self.queues[queue] = None
                call.channel_done(error)
