"""The part of PostgreSQL's protocol that the proxy understands: messages whose reply a client waits for."""

from __future__ import annotations

import struct

__all__ = ["QueryCounter"]

_SSL_REQUEST = 80877103
_GSSENC_REQUEST = 80877104
"""Protocol version numbers that ask for encryption (PostgreSQL docs, 53.7)."""


class QueryCounter:
    """Count the queries in one client's stream: each costs a round trip.

    Simple queries and Sync messages count; start-up and authentication do not. An
    encrypted stream cannot be counted.
    """

    def __init__(self) -> None:
        self.queries = 0
        self._buffer = bytearray()
        self._started = False
        self._skip = 0
        self._opaque = False

    def feed(self, data: bytes) -> int:
        """Take the next bytes, split anywhere; return how many queries began in them."""
        before = self.queries
        if not self._opaque:
            self._buffer += data
        while self._take():
            pass
        return self.queries - before

    def _take(self) -> bool:
        # The body of a message is never kept: a query may be large.
        dropped = min(self._skip, len(self._buffer))
        del self._buffer[:dropped]
        self._skip -= dropped
        if self._skip:
            return False
        return self._take_message() if self._started else self._take_startup()

    def _take_startup(self) -> bool:
        # Untyped: length and version.
        if len(self._buffer) < 8:
            return False
        length, version = struct.unpack_from("!ii", self._buffer)
        if version in (_SSL_REQUEST, _GSSENC_REQUEST):
            self._drop(8)
        elif version >> 16 == 3 and length >= 8:
            self._started = True
            self._drop(length)
        else:
            # TLS or a cancel request: nothing can be counted.
            self._opaque = True
            self._buffer.clear()
            return False
        return True

    def _take_message(self) -> bool:
        if len(self._buffer) < 5:
            return False
        kind, length = struct.unpack_from("!ci", self._buffer)
        if kind in (b"Q", b"S"):
            self.queries += 1
        self._drop(1 + max(length, 4))
        return True

    def _drop(self, size: int) -> None:
        self._skip = size
