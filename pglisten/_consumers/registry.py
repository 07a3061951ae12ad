"""Which functions consume, and where they run.

`Broadcaster.on` and `EventLog.on` only note a function, often at import, before a fork and before there is an
event loop. `Consumers.start` starts a greenlet for each of them, in the process that serves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any

from .._listener.settings import Settings
from .._ownership import Owner
from ..errors import ListenerClosed
from .consumer import Consumer, Work, stop

__all__ = ["Consumers", "check_function", "is_serving", "start_all", "stop_all"]


class Consumers:
    """The consumers of one broadcaster. *start* is its method that starts them."""

    def __init__(self, start: Callable[[], None], settings: Settings) -> None:
        self.begin = start
        self._settings = settings
        self._noted: list[tuple[str, Callable[[Consumer], Work], bool]] = []
        self._owner: Owner | None = None
        """The process that has started them; ``None`` if none has."""
        self._running: list[Consumer] = []
        """Those of that process: one for each that was noted, in the same order."""

        self._stopped = False

    @property
    def _started(self) -> bool:
        return self._owner is not None and not self._owner.forked

    def decorator(self, begin: Callable[[Consumer, Any], Work]) -> Callable[[Any], Any]:
        """Return a decorator that notes a function, whose work *begin* makes from the function.

        It returns the function. Where others run already, the function starts at once. Raises `TypeError` if
        it is no function, or one that a call does not run, and `ListenerClosed`.
        """

        def note(function: Any) -> Any:
            check_function(function)
            self.note(_name(function), lambda consumer: begin(consumer, function))
            return function

        return note

    def note(self, name: str, begin: Callable[[Consumer], Work], *, counted: bool = True) -> None:
        """Note work that *begin* makes. With *counted* false, it is this package's own: no figure has it."""
        if self._stopped:
            raise ListenerClosed("the broadcaster was closed")
        # Kept until they are stopped: a broadcaster that a factory has made may have no other reference.
        _noted.add(self)
        self._noted.append((name, begin, counted))
        if self._started or (_serving is not None and _serving.is_here):
            self.begin()

    def start(self) -> None:
        """Start those that this process has not started. Never waits."""
        if not self._started:
            self._owner, self._running = Owner(), []
        for name, begin, counted in self._noted[len(self._running) :]:
            self._running.append(Consumer(name, begin, self._settings, counted=counted))

    def stop(self, grace_period: float | None) -> None:
        """End all of them for good. A function that runs has *grace_period* seconds (``None``: no limit)."""
        self._stopped = True
        _noted.discard(self)
        stop(self.of_this_process(), grace_period)

    def of_this_process(self) -> list[Consumer]:
        """Return those that this process has started, also those that have ended."""
        return self._running if self._started else []

    def counts(self) -> tuple[int, int]:
        """Return how many run, and how often one has failed, in this process."""
        mine = [each for each in self.of_this_process() if each.counted]
        return sum(not each.greenlet.dead for each in mine), sum(each.failures for each in mine)


_noted: set[Consumers] = set()
_serving: Owner | None = None
"""The process in which `start_all` has started them."""


def start_all() -> None:
    """Start the consumers of all broadcasters, in this process. Those that are noted later start at once."""
    global _serving  # noqa: PLW0603
    _serving = Owner()
    for each in list(_noted):
        with contextlib.suppress(ListenerClosed):
            each.begin()


def is_serving() -> bool:
    """Return whether `start_all` was called in this process."""
    return _serving is not None and not _serving.forked


def stop_all(grace_period: float) -> None:
    """End the consumers of all broadcasters, of this process. Together they have *grace_period* seconds."""
    stop([consumer for each in _noted for consumer in each.of_this_process()], grace_period)


def check_function(function: object) -> None:
    """Raise `TypeError` if *function* is no function, or one that a call does not run."""
    if not callable(function):
        raise TypeError(f"a consumer is a function, not {type(function).__name__}")
    if any(kind(function) for kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
        raise TypeError(f"consumer {_name(function)} is asynchronous or a generator: a call would not run it")


def _name(function: object) -> str:
    # No repr(): that of a partial function shows its arguments.
    return (
        f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"
    )
