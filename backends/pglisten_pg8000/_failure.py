"""Why an attempt to connect failed, until it is reported as `pglisten.ConnectionFailed`."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

__all__ = ["Forked", "StartupFailed", "system_errors"]

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


class Forked(StartupFailed):
    """This is a forked child's copy of what was waiting: the answer is its parent's."""

    def __init__(self) -> None:
        super().__init__("this process was forked: the connection is its parent's")


@contextlib.contextmanager
def system_errors() -> Generator[None, None, None]:
    """Raise an `OSError` of the block as `StartupFailed`.

    The block must not wait: what a wait raises is the caller's own.
    """
    try:
        yield
    except OSError as exc:
        raise StartupFailed(exc.strerror or str(exc)) from exc
