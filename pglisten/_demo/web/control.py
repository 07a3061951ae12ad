"""The channel between the workers and the process that owns the database: bytes on a stream socket.

All workers share one end, inherited from gunicorn. So each request is a single byte, which cannot be split
by another worker's. The demo sends nothing to the workers, but each side sees when the other has ended,
even if it was killed.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Request"]


class Request(Enum):
    """A request of a worker."""

    READY = b"y"
    """The worker is about to answer requests."""
    CUT = b"c"
    """A user wants the workers to be cut off from the database."""
    RESTART = b"r"
    """A user wants to restart the database."""
    RELOAD = b"l"
    """A user wants to replace the workers."""
