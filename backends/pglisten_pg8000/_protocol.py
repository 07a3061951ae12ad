"""The version of PostgreSQL's protocol: what to ask for, and what the server answers (PostgreSQL docs, 54.2).

::

    min_protocol_version    max_protocol_version    asked for
    -                       -                       3.0, because older poolers answer nothing newer
    3.0                     -                       3.0
    3.2, latest             -                       3.2
    any                     3.0                     3.0
    any                     3.2, latest             3.2

A server that knows no such version says the newest that it knows, and goes on with that.
"""

from __future__ import annotations

from pglisten.backend import ConnInfo

from ._failure import StartupFailed

__all__ = ["OLDEST", "Versions"]

OLDEST, NEWEST = (3, 0), (3, 2)
"""There is no 3.1. The messages that this package sends and reads are the same in both, except
BackendKeyData, whose key is longer in 3.2."""

_VERSIONS = {"3.0": OLDEST, "3.2": NEWEST, "latest": NEWEST}

_BODY = range(8, 2000 + 1)
"""Length of NegotiateProtocolVersion's body, in bytes: the same limits as libpq's (PQconnectPoll)."""


class Versions:
    """The versions that *conninfo* allows, and the one in use."""

    def __init__(self, conninfo: ConnInfo) -> None:
        self._least = _VERSIONS[conninfo["min_protocol_version"] or "3.0"]
        self.used = _VERSIONS[conninfo["max_protocol_version"] or _text(self._least)]
        """The version that is asked for, and the server's own after `negotiate`."""
        self._negotiated = False

    def negotiate(self, body: bytes) -> None:
        """Read the body of NegotiateProtocolVersion. Raises `StartupFailed`, by the same rules as libpq."""
        if len(body) not in _BODY or self._negotiated:
            raise StartupFailed("the server broke the protocol with a malformed NegotiateProtocolVersion")
        self._negotiated = True
        version = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        unknown_parameters = int.from_bytes(body[4:8], "big", signed=True)
        if unknown_parameters:
            raise StartupFailed(
                "the server broke the protocol: it refused start-up parameters that were not sent"
            )
        if version not in _VERSIONS.values() or version >= self.used:
            raise StartupFailed(
                f"the server broke the protocol: it answered {_text(version)} to a request for protocol "
                f"version {_text(self.used)}"
            )
        if version < self._least:
            raise StartupFailed(
                f"the server only supports protocol version {_text(version)}, "
                f"and min_protocol_version is {_text(self._least)}"
            )
        self.used = version


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
