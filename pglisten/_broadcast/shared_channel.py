"""A channel that several subscriptions share, and the calls that wait for it."""

from __future__ import annotations

from typing import TypeAlias

from .._completion import Completion
from .._queues import SubscriptionQueue

__all__ = ["Channels", "SharedChannel", "SubscribeCompletion"]


class SubscribeCompletion(Completion):
    """One call that adds channels to a subscription, and waits for the server to acknowledge them."""

    __slots__ = ("unacknowledged",)

    def __init__(self) -> None:
        super().__init__()
        self.unacknowledged = 0
        """Channels that are not acknowledged."""

    def channel_done(self, error: Exception | None) -> None:
        """Take note of the server's answer for one of them."""
        self.unacknowledged -= 1
        if error is not None or not self.unacknowledged:
            self.resolve(error)


Channels: TypeAlias = dict[str, SubscribeCompletion | None]
"""A subscription's channels; until the call that adds one has returned, with that call."""


class SharedChannel(Completion):
    """A channel that somebody has; in the listener's channel table, who waits for it."""

    __slots__ = ("_refused", "channel", "queues", "refusal")

    def __init__(self, channel: str, refused: list[SharedChannel]) -> None:
        super().__init__()
        self._refused = refused
        self.channel = channel
        self.queues: dict[SubscriptionQueue, SubscribeCompletion | None] = {}
        """Those that have it; until it is acknowledged, with the call that waits for that."""
        self.refusal: Exception | None = None
        """Why the server has it no more, though it had acknowledged it."""

    def resolve(self, error: Exception | None = None) -> None:
        """Take note of the server's answer: to the claim, or later on the way back from a loss."""
        if self.done:
            self.refusal = error
            if self.queues:  # Not on their way out.
                self._refused.append(self)
            return
        super().resolve(error)
        for queue, call in self.queues.items():
            if call is not None:
                self.queues[queue] = None
                call.channel_done(error)
