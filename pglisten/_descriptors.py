"""Descriptors that are identified by their file, and one function to wait for them.

A number alone does not identify a descriptor. A process that daemonizes forks, closes every descriptor and
opens others under the same numbers. Closing by number would then close a file of the application.
"""

from __future__ import annotations

import contextlib
import os
import socket as numbers  # Constants only: monkey-patching may have put gevent's classes into it.
from collections.abc import Callable

from gevent import get_hub, monkey
from gevent.hub import Waiter

__all__ = ["OwnedDescriptor", "wait_ready"]

_READ, _WRITE = 1, 2  # gevent's and libev's EV_READ and EV_WRITE.

_close: Callable[[int], None] = monkey.get_original("os", "close")
"""``os.close``, at once. In a patched process gevent delays it to the loop's next turn, which may never come
in a forked child."""

_socket = monkey.get_original("socket", "socket")


class OwnedDescriptor:
    """Own an open descriptor, which is closed or diverted only while its number refers to the same file.

    It does not close itself when it is collected: its owner calls `close`. No method waits. Only the
    constructor raises ``OSError``.
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
        """Whether the number still refers to the same file: compares device and inode (fstat(2))."""
        try:
            return self._number >= 0 and _identity(os.fstat(self._number)) == self._identity
        except OSError:
            return False

    def close(self) -> None:
        """Close it, unless the number refers to another file by now. Idempotent."""
        if self.is_ours:
            with contextlib.suppress(OSError):
                _close(self._number)
        self._number = -1

    def divert(self) -> None:
        """Keep the number open but connected to nothing, unless it refers to another file.

        This is for the child of a fork, where copies of greenlets may still wait for the number. If the
        process has no free descriptor for that, the number is closed.
        """
        if not self.is_ours:
            return
        try:
            # A socket without a peer. Unlike /dev/null it has an inode of its own, which tells it from
            # files that the application opens later, and it needs no file system.
            nowhere = _socket(numbers.AF_UNIX, numbers.SOCK_STREAM)
        except OSError:
            self.close()
            return
        os.dup2(nowhere.fileno(), self._number, inheritable=False)
        nowhere.close()
        self._identity = _identity(os.fstat(self._number))


def wait_ready(
    descriptor: int, timeout: float | None, *, readable: bool = True, writable: bool = False
) -> bool:
    """Wait cooperatively until *descriptor* is readable or writable, as asked; return whether it is.

    ``False`` means that *timeout* seconds have passed (``None``: no limit). Every exception that this raises
    was thrown into the greenlet from outside (``gevent.Timeout``, ``Greenlet.kill``), whatever its class: let
    it pass unchanged. So call this outside of ``try`` blocks for errors of your own.
    """
    hub = get_hub()
    waiter: Waiter[bool] = Waiter(hub)
    ready = hub.loop.io(descriptor, (_READ if readable else 0) | (_WRITE if writable else 0))
    # Low priority: if the event loop finds both at once, because something has held it up, it is ready.
    late = None if timeout is None else hub.loop.timer(timeout, priority=-1)
    try:
        ready.start(waiter.switch, True)
        if late is not None:
            late.start(waiter.switch, False, update=True)
        return waiter.get()
    finally:
        ready.close()
        if late is not None:
            late.close()


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
