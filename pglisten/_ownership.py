"""Whose process and thread this is.

Greenlets, descriptors and locks all survive a fork, as copies that must not touch the parent's session.
Greenlets belong to the OS thread of their hub, and waking one from another thread hangs or crashes it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Protocol

from gevent import monkey

from .errors import Error

thread_ident: Callable[[], int] = monkey.get_original("_thread", "get_ident")
"""The real thread's: with a patched `threading` the public function tells greenlets apart."""


OTHER_THREAD = (
    "called from another OS thread than the one it was made in: greenlets cannot wait across threads. "
    "Run the web server under gevent: gunicorn -k gevent; python -m gevent.monkey $(which flask) run; "
    "for manage.py runserver, gevent.monkey.patch_all() in manage.py's first lines. "
    "Elsewhere make one in that thread, or hand the call over with hub.loop.run_callback_threadsafe"
)
"""What is wrong, and what to do. Most often it is a development server with a thread for each request."""


class Owner:
    """The process and thread in which something was made."""

    __slots__ = ("__weakref__", "_pid", "thread")

    def __init__(self) -> None:
        self._pid = os.getpid()
        self.thread = thread_ident()
        """Its ident. 0 in a forked child, but for forks that Python knows nothing of: quicker to ask than
        ``forked``, and not for what touches a session."""
        _owners.add(self)

    @property
    def is_here(self) -> bool:
        """Whether this is that process and that thread."""
        return thread_ident() == self.thread and os.getpid() == self._pid

    @property
    def forked(self) -> bool:
        """Whether this is a forked child of the process."""
        return os.getpid() != self._pid

    def check_thread(self) -> None:
        """Raise `Error` in any thread but that one."""
        if thread_ident() != self.thread:
            raise Error(OTHER_THREAD)


class Replaced(Error):
    """Tell copies of the parent's greenlets that the listener goes on with another supervisor."""


class Abandonable(Protocol):
    """What is the process's own, and in a forked child nothing but a copy."""

    def abandon(self) -> None:
        """Let go of it. Never waits."""


_owners: weakref.WeakSet[Owner] = weakref.WeakSet()
_abandonable: weakref.WeakSet[Abandonable] = weakref.WeakSet()


def abandon_after_fork(owned: Abandonable) -> None:
    """Have a forked child drop its copy of *owned* at once: a session, or what is queued.

    For a session the check before each use would be enough for the child. But as long as a child holds the
    descriptor the connection outlives the parent, and the server keeps its session.
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
