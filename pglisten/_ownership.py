"""Remembers the process and thread in which an object was made.

After a fork, the child has copies of greenlets, descriptors and locks. They must not touch the parent's
session. A greenlet belongs to the OS thread of its hub; waking it from another thread hangs or crashes it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

from gevent import monkey

from .errors import Error

thread_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
"""Returns the ident of the OS thread. In a patched process the public function returns the greenlet's."""


UNDER_GEVENT = (
    "Run the web server under gevent: gunicorn -k gevent; python -m gevent.monkey $(which flask) run; "
    "for manage.py runserver, gevent.monkey.patch_all() in manage.py's first lines"
)

OTHER_THREAD = (
    "called from another OS thread than the one it was made in: greenlets cannot wait across threads. "
    f"{UNDER_GEVENT}. "
    "Elsewhere make one in that thread, or hand the call over with hub.loop.run_callback_threadsafe"
)
"""The usual cause is a development server with a thread for each request."""


class Owner:
    """Remember the process and thread in which this object was made."""

    __slots__ = ("__weakref__", "_pid", "thread")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.thread = thread_ident()
        """Its ident; 0 in a forked child, unless C code forked. Cheaper than ``forked``; never guard a
        session with it."""
        _owners.add(self)

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in that process and thread."""
        return thread_ident() == self.thread and os.getpid() == self._pid

    @property
    def forked(self) -> bool:
        """Whether the caller runs in a forked child of that process."""
        return os.getpid() != self._pid

    def check_thread(self) -> None:
        """Raise `Error` in any other thread."""
        if thread_ident() != self.thread:
            raise Error(OTHER_THREAD)


class Replaced(Error):
    """Raised in copies of the parent's greenlets: the listener now has another supervisor."""


class Abandonable(Protocol):
    """An object that belongs to one process; a forked child has a copy to discard."""

    def abandon(self) -> None:
        """Discard this copy. Never waits."""


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
_abandonable: weakref.WeakSet[Abandonable] = weakref.WeakSet()


def abandon_after_fork(owned: Abandonable) -> None:
    """Have a forked child discard its copy of *owned*, a session or a queue, at once.

    The checks before each use of a session would protect the parent's session. But while a child holds the
    descriptor, the connection outlives the parent, and the server keeps the session.
    """
    _abandonable.add(owned)


def _forked() -> None:
    for owner in list(_owners):
        owner.thread = 0
    _owners.clear()
    for each in list(_abandonable):
        each.abandon()
    _abandonable.clear()


os.register_at_fork(after_in_child=_forked)
