"""What becomes of a worker's connection to the database, for all pages that the worker serves."""

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
    """How it stands."""

    name: Name = "connecting"
    """``back`` after a loss, ``connected`` if there was none."""
    attempts: int = 0
    """That have failed since it began, or since the loss."""
    error: str = ""
    """The loss's, or the last failed attempt's."""
    server_pid: int | None = None

    def fields(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


class StatePublisher:
    """The present state, and who wants to know of every new one."""

    def __init__(self) -> None:
        self.state = State()
        self.callbacks: set[Callable[[State], None]] = set()
        """Functions that never wait: the listener's stream goes on when all have returned."""
        self.server_pid: Callable[[], int | None] = lambda: None
        """Asked for the session's server process when there is a new one."""

    def event(self, event: ListenerEvent, error: Exception | None) -> None:
        """Take an event of the listener's; its ``event_callback``."""
        if isinstance(error, ListenerClosed):
            return  # the worker ends, and so do its pages
        now = self.state
        if event is ListenerEvent.CONNECTED:
            now = replace(now, name="connected", server_pid=self.server_pid())
        elif event is ListenerEvent.RECONNECTED:
            now = replace(now, name="back", server_pid=self.server_pid())
        elif event is ListenerEvent.DISCONNECTED:
            now = State("lost", error=one_line(error))
        else:
            now = replace(now, attempts=now.attempts + 1, error=one_line(error))
        self.state = now
        for callback in tuple(self.callbacks):
            callback(now)
