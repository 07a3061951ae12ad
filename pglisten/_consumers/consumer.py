"""A consumer: one function of the application in a greenlet of its own, which goes on after it raises.

The greenlet waits for an item, calls the function, and waits again. While the function runs, the consumer is
``busy``, and gets some time to end. In any other wait it is killed at once. The copy of a greenlet in a
forked child ends at once.
"""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol

import gevent
from greenlet import getcurrent

from .._deadline import Deadline
from .._greenlet import Greenlet, spawn
from .._listener.backoff import Backoff
from .._listener.settings import Settings
from .._ownership import Owner
from ..errors import Error

__all__ = ["Consumer", "Work", "stop"]

logger = logging.getLogger("pglisten.consumers")

DEATH = 0.1
"""Seconds in which a killed function must unwind. One that ignores its kill is left behind."""

FRAMES = 10
"""Innermost frames of a failure that the log shows."""


class Work(Protocol):
    """What a consumer does in one process. It keeps its state over failures."""

    @property
    def closed(self) -> bool:
        """Whether nothing more will come, so that the consumer ends."""
        ...

    def run(self) -> None:
        """Consume until the source is closed. Raises what the application's functions raise, and others."""
        ...

    def close(self) -> None:
        """Give back what it holds. Called once, however the consumer ends."""
        ...


class Consumer:
    """Run one piece of work in a greenlet of this process, again after each failure, until it is stopped."""

    def __init__(
        self, name: str, begin: Callable[[Consumer], Work], settings: Settings, *, counted: bool = True
    ) -> None:
        self.counted = counted
        """Whether figures have it: it runs a function of the application."""
        self.busy = False
        """Whether the application's function runs, and may end by itself."""
        self.failures = 0
        self._name = name
        self._work = begin(self)
        self._settings = settings
        self._backoff: Backoff | None = None
        """The delays after failures; ``None`` if the last call succeeded."""
        self._stopping = False
        self._owner = Owner()
        self.greenlet: Greenlet = spawn("pglisten-consumer", self._run)

    def begin_to_stop(self) -> None:
        """End it: at once if it waits, else when the function has returned. Never waits."""
        self._stopping = True
        if not self.busy and self.greenlet is not getcurrent():
            self.greenlet.kill(block=False)

    @property
    def ending(self) -> bool:
        """Whether it was stopped, or this is its copy in a forked child."""
        return self._stopping or self._owner.forked

    def check(self) -> None:
        """End this greenlet if it is `ending`. To be called after each wait."""
        if self.ending:
            raise gevent.GreenletExit

    def warn_of_gap(self) -> None:
        """Say that items are missing, which the application has no function for."""
        logger.warning("consumer %s has no on_gap, and something may be missing here", self._name)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call the application's *function*; end the greenlet instead, or afterwards, if it is `ending`."""
        self.check()
        self.busy = True
        try:
            function(*arguments)
        finally:
            self.busy = False
        self.succeeded()
        self.check()

    def succeeded(self) -> None:
        """Note that a call succeeded: the next failure has the shortest delay."""
        self._backoff = None

    def _run(self) -> None:
        if self.ending:
            return
        try:
            while (error := self._failure()) is not None:
                delay = self._next_delay()
                self._report(error, delay)
                del error  # Its frames hold payloads.
                self._pause(delay)
        except gevent.GreenletExit:
            if not self.ending:
                logger.warning("consumer %s was killed, and has ended in this process", self._name)
        finally:
            if not self._owner.forked:
                self._work.close()

    def _failure(self) -> BaseException | None:
        """Do the work; return what it has raised, or ``None`` if nothing more will come."""
        try:
            self._work.run()
        except (gevent.GreenletExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a gevent.Timeout must not end it for good
            self.check()
            if not self._work.closed:
                return error
        return None

    def _pause(self, delay: float) -> None:
        ends_at = time.monotonic() + delay
        while (left := ends_at - time.monotonic()) > 0:
            try:
                gevent.sleep(left)
            except (gevent.GreenletExit, KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # noqa: BLE001 - such as a gevent.Timeout that the function has left behind
                logger.debug("consumer %s was disturbed in its pause", self._name)
        self.check()

    def _next_delay(self) -> float:
        if self._backoff is None:
            low, high = self._settings.min_reconnect_interval, self._settings.max_reconnect_interval
            self._backoff = Backoff(low, high, self._settings.jitter, random.random)
        return self._backoff.after_failure()

    def _report(self, error: BaseException, delay: float) -> None:
        self.failures += 1
        try:
            self._log(error, delay)
        except (gevent.GreenletExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001 - as in `_pause`, while a handler of the log waits
            logger.debug("consumer %s was disturbed while its failure was logged", self._name)

    def _log(self, error: BaseException, delay: float) -> None:
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__, limit=-FRAMES))
        logger.error(
            "consumer %s failed, and continues in %.3g s\n%s%s",
            self._name,
            delay,
            "".join(frames),
            _described(error),
        )


def _described(error: BaseException) -> str:
    """Return the class of *error*, its SQLSTATE and, if it is pglisten's, its text.

    The text of any other error may hold a payload, or the password of a connection string.
    """
    name = type(error).__qualname__
    try:
        code = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        text = f": {error}" if isinstance(error, Error) else ""
        return f"{name} (SQLSTATE {code}){text}" if code else name + text
    except Exception:  # noqa: BLE001 - the application's class may do anything, and its consumer goes on
        return name


def stop(consumers: Iterable[Consumer], grace_period: float | None) -> None:
    """End *consumers*. Functions that run have *grace_period* seconds together (``None``: no limit)."""
    deadline = Deadline(grace_period)
    mine = [each for each in consumers if not each.greenlet.dead]
    for each in mine:
        each.begin_to_stop()
    # One that stops itself ends when its function returns.
    others = [each.greenlet for each in mine if each.greenlet is not getcurrent()]
    gevent.joinall(others, timeout=deadline.remaining())
    gevent.killall(others, block=False)
    gevent.joinall(others, timeout=DEATH)
