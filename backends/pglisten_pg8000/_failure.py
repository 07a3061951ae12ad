"""Errors of an attempt to connect, before the backend turns them into `pglisten.ConnectionFailed`."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

__all__ = ["Forked", "StartupFailed", "system_errors"]

_MAX_TEXT = 2000
"""Longest message, in characters. Most of it may come from the server, and each attempt logs it."""


class StartupFailed(Exception):
    """The attempt failed; the message gives the reason in words for the user.

    Unlike `ConnectionFailed` it is no `OSError`, because pg8000 turns each `OSError` into "network error".
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, encryption: bool = False) -> None:
        super().__init__(" ".join(message.split())[:_MAX_TEXT])
        self.sqlstate = sqlstate
        """The server's code; ``None`` if it gave none."""
        self.encryption = encryption
        """Whether an attempt with or without TLS instead may succeed: the server has not asked for
        authentication yet."""


class Forked(StartupFailed):
    """A forked child's copy of the waiting greenlet has run. The answer belongs to the parent process."""

    def __init__(self) -> None:
        super().__init__("this process was forked: the connection is its parent's")


@contextlib.contextmanager
def system_errors() -> Generator[None, None, None]:
    """Raise an `OSError` of the block as `StartupFailed`.

    The block must not wait, because an exception that a wait raises belongs to the caller.
    """
    try:
        yield
    except OSError as exc:
        raise StartupFailed(exc.strerror or str(exc)) from exc
