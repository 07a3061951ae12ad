"""The channel between the workers and the process that owns the database: bytes on a stream socket.

All workers share one end, inherited from gunicorn, and so each request is a single byte: nothing can come
between the parts of one. The other way nothing is sent, but either end tells when the other is gone,
whatever has killed it.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Request"]


class Request(Enum):
    """What a worker may say."""

    READY = b"y"
    """It is about to answer requests."""
    RESTART = b"r"
    """Somebody wants to see the database go away and come back."""
    RELOAD = b"l"
    """Somebody wants to see the workers replaced."""
