"""The options of an event stream that a view has, for functions that pass them on to ``sse.response``."""

from __future__ import annotations

from typing import TypedDict

from .form import Encode, EventName, Retry

__all__ = ["StreamOptions"]


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of ``sse.response``; each may be omitted."""

    owner: str | None
    max_per_owner: int | None
    max_streams: int | None
    queue_size: int
    heartbeat: float
    retry: Retry
    event: EventName | None
    encode: Encode | None
    gap: str
    gap_spread: float
    max_age: float | None
    send_timeout: float
    timeout: float
