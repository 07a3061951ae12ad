"""The state of a worker's connection to the database, for all pages that the worker serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ..._text import one_line
from ...errors import ListenerClosed
from ...listener import ListenerEvent

__all__ = ["State", "StatePublisher"]

Name = Literal["connecting", "connected", "lost", "back"]


@dataclass(frozen=True)
class State:
    """The state of the connection."""

    name: Name = "connecting"
    """``back`` after a loss, ``connected`` if there was no loss."""
    attempts: int = 0
    """Failed attempts since the start, or since the loss."""
    error: str = ""
    """Of the loss, or of the last failed attempt."""

    def fields(self) -> dict[str, Any]:
        """Return the fields for JSON."""
        return asdict(self)


class StatePublisher:
    """The current state, and functions to call with each new one."""

    def __init__(self) -> None:
        self.state = State()
        self.callbacks: set[Callable[[State], None]] = set()
        """Functions that never wait: the listener delivers only after all have returned."""

    def event(self, event: ListenerEvent, error: Exception | None) -> None:
        """Take an event of the listener, as its ``event_callback``."""
        if isinstance(error, ListenerClosed):
            return  # the worker and its pages end
        now = self.state
        if event is ListenerEvent.CONNECTED:
            now = replace(now, name="connected")
        elif event is ListenerEvent.RECONNECTED:
            now = replace(now, name="back")
        elif event is ListenerEvent.DISCONNECTED:
            now = State("lost", error=one_line(error))
        else:
            now = replace(now, attempts=now.attempts + 1, error=one_line(error))
        self.state = now
        for callback in tuple(self.callbacks):
            callback(now)
