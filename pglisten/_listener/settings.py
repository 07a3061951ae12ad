"""A listener's options: the name, type and default of each, and the checked settings made from them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypedDict

import gevent

from .. import _options
from .._connection.heartbeat import Heartbeat
from .._connection.target import Target
from .._conninfo.urls import Dsn
from ..backend import Backend
from .events import EventCallback

__all__ = [
    "DEFAULTS",
    "HEARTBEAT_INTERVAL",
    "ListenerOptions",
    "ListenerOverflow",
    "OptionOverrides",
    "Settings",
    "Timing",
]

ListenerOverflow = Literal["block", "drop_oldest"]
"""What happens if the queue is full: reading from the socket stops, or the oldest notification is dropped."""

HEARTBEAT_INTERVAL = 30.0
"""Seconds after the server's last reply until a listener pings it; the default."""


@dataclass(frozen=True)
class ListenerOptions:
    """The options of `Listener` and `Broadcaster` as the caller gave them. Times are seconds.

    The defaults are written here only. The signatures of both classes repeat names and types for editors and
    type checkers, and a test compares them.
    """

    dsn: Dsn = ""
    backend: str | Backend | None = None
    min_reconnect_interval: float = 1.0
    max_reconnect_interval: float = 60.0
    jitter: float = 0.1
    event_callback: EventCallback | None = None
    queue_size: int = 1024
    overflow: ListenerOverflow = "block"
    connect_timeout: float | None = 10.0
    heartbeat_interval: float | None = HEARTBEAT_INTERVAL
    heartbeat_timeout: float = 10.0

    def __repr__(self) -> str:
        # The generated one would show the DSN, and with it a password.
        return f"<ListenerOptions backend={self.backend!r}>"

    def check(self) -> Settings:
        """Return the checked settings.

        Raises `ConfigurationError` for a wrong option, DSN or backend name.
        """
        target = Target(self.dsn, self.backend, self.connect_timeout)
        low, high = _options.intervals(
            self.min_reconnect_interval,
            self.max_reconnect_interval,
            default_maximum=DEFAULTS.max_reconnect_interval,
        )
        _options.callback(self.event_callback)
        interval = _options.seconds("heartbeat_interval", self.heartbeat_interval, none_means="no heartbeat")
        answer = _options.seconds("heartbeat_timeout", self.heartbeat_timeout)
        return Settings(
            target=target,
            min_reconnect_interval=low,
            max_reconnect_interval=high,
            jitter=_options.fraction("jitter", self.jitter),
            event_callback=self.event_callback,
            queue_size=_options.queue_size(self.queue_size),
            drop_oldest=_options.drops_oldest(self.overflow),
            heartbeat=None if interval is None or answer is None else Heartbeat(interval, answer),
        )


DEFAULTS = ListenerOptions()


class OptionOverrides(TypedDict, total=False):
    """The same options as keyword arguments of ``from_config``; each may be omitted."""

    dsn: Dsn
    backend: str | Backend | None
    min_reconnect_interval: float
    max_reconnect_interval: float
    jitter: float
    event_callback: EventCallback | None
    queue_size: int
    overflow: ListenerOverflow
    connect_timeout: float | None
    heartbeat_interval: float | None
    heartbeat_timeout: float


@dataclass(frozen=True)
class Settings:
    """A listener's options, checked. Times are seconds."""

    target: Target
    min_reconnect_interval: float
    max_reconnect_interval: float
    jitter: float
    event_callback: EventCallback | None
    queue_size: int
    drop_oldest: bool
    heartbeat: Heartbeat | None


class Timing(NamedTuple):
    """The sources of time and of random numbers; tests replace them."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = gevent.sleep
    random: Callable[[], float] = random.random
