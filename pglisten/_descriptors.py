"""Descriptors that are known by what they lead to, and one wait for them.

A number alone does not tell whose descriptor it is. A process that daemonizes forks, closes every descriptor
and opens others under the same numbers: closing by number would then close a file of the application's.
"""

from __future__ import annotations

import contextlib
import os
import socket as numbers  # Constants only: monkey-patching may have put gevent's classes into it.
from collections.abc import Callable

from gevent import monkey
from gevent.socket import wait_read, wait_readwrite, wait_write

__all__ = ["OwnedDescriptor", "wait_ready"]

_close: Callable[[int], None] = monkey.get_original("os", "close")
"""``os.close``, now. In a patched process gevent postpones it to the loop's next turn, which may never come
in a forked child."""

_socket = monkey.get_original("socket", "socket")


class OwnedDescriptor:
    """An open descriptor that is closed or diverted only while it leads to what it led to at first.

    It does not close itself when it is collected: its owner calls `close`. Nothing here waits or raises
    ``OSError``, the constructor excepted.
    """

    __slots__ = ("_identity", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._identity = _identity(os.fstat(number))

    def fileno(self) -> int:
        """Return the number; -1 after `close`."""
        return self._number

    @property
    def is_ours(self) -> bool:
        """Whether the number still leads there: compares device and inode (fstat(2))."""
        try:
            return self._number >= 0 and _identity(os.fstat(self._number)) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Close it, unless the number leads elsewhere by now. Idempotent."""
        if self.is_ours:
            with contextlib.suppress(OSError):
                _close(self._number)
        self._number = -1

    def divert(self) -> None:
        """Let the number lead nowhere and keep it open, unless it leads elsewhere by now.

        This is for the child of a fork, where copies of greenlets may still wait for the number. If the
        process has no descriptor left for that, the number is closed.
        """
        if not self.is_ours:
            return
        try:
            # A socket without a peer. Unlike /dev/null it has an inode of its own, which tells it from what
            # the application opens later, and it needs no file system.
            nowhere = _socket(numbers.AF_UNIX, numbers.SOCK_STREAM)
        except OSError:
            self.close()
            return
        os.dup2(nowhere.fileno(), self._number, inheritable=False)
        nowhere.close()
        self._identity = _identity(os.fstat(self._number))


class _Late(Exception):
    """The time that one wait had is over."""


def wait_ready(
    descriptor: int, timeout: float | None, *, readable: bool = True, writable: bool = False
) -> bool:
    """Wait cooperatively until *descriptor* is one of what is asked for; return whether it is.

    ``False`` means that *timeout* seconds have passed (``None``: no limit). Every exception that comes out
    was thrown into this greenlet from outside (``gevent.Timeout``, ``Greenlet.kill``) and is its caller's,
    whatever its class: let it pass as it is. So call this outside of ``try`` blocks for errors of your own.
    """
    wait = wait_readwrite if readable and writable else wait_write if writable else wait_read
    late = _Late()
    try:
        wait(descriptor, timeout, late)
    except _Late as error:
        if error is not late:
            raise
        return False
    return True


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
