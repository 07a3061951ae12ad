"""Why an attempt to connect failed, until it is reported as `pglisten.ConnectionFailed`."""

from __future__ import annotations

__all__ = ["StartupFailed"]

_MAX_TEXT = 2000
"""Longest message, in characters: much of it may be the server's, and it goes into logs at each attempt."""


class StartupFailed(Exception):
    """The attempt failed, for the reason that the message gives in words for the user.

    Not an `OSError`, unlike `ConnectionFailed`: pg8000 turns every one of those into "network error".
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, encryption: bool = False) -> None:
        super().__init__(" ".join(message.split())[:_MAX_TEXT])
        self.sqlstate = sqlstate
        """The server's code, ``None`` if it gave none."""
        self.encryption = encryption
        """Whether it may be for having used TLS, or not: nothing of authentication had been said yet."""
