"""What a supervisor is given: a listener's options, checked, and its clock."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import gevent

from ._conninfo import ConnInfo
from ._events import EventCallback
from ._pump import Heartbeat
from .backend import Backend

__all__ = ["Pace", "Settings"]


@dataclass(frozen=True)
class Settings:
    """A listener's options, checked. Times are seconds."""

    backend: Backend
    conninfo: ConnInfo
    min_reconnect_interval: float
    max_reconnect_interval: float
    jitter: float
    event_callback: EventCallback | None
    queue_size: int
    drop_oldest: bool
    connect_timeout: float | None
    heartbeat: Heartbeat | None


class Pace(NamedTuple):
    """Where time and chance come from; a test brings its own."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] = gevent.sleep
    dice: Callable[[], float] = random.random
