"""A connection string that cannot be had for a while: it keeps listeners away from a server of the user."""

from __future__ import annotations

import time

__all__ = ["Door"]


class Door:
    """The ``dsn`` of a listener, as a function: closed, it refuses each attempt to connect.

    The demo's own server stands behind a proxy that refuses connections. A server of the user cannot, without
    harm to its other clients.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._closed_until = 0.0

    def close(self, seconds: float) -> None:
        """Refuse attempts for *seconds*."""
        self._closed_until = time.monotonic() + seconds

    def __call__(self) -> str:
        """Return the connection string, or raise ``ConnectionRefusedError``."""
        if time.monotonic() < self._closed_until:
            raise ConnectionRefusedError("the demo keeps this connection away")
        return self._dsn
