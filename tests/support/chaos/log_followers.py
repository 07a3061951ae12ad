"""Consumers of a log in a chaos run: they come, go, are slow or killed, and resume by position."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import gevent
from gevent.event import Event

import pglisten
from pglisten import EventLog, Follower
from support.chaos.log_checker import Stream

HANG = 60.0
"""Seconds after which ``follow()`` counts as hung; no fault lasts three seconds."""


@dataclass(frozen=True)
class Habit:
    """How a consumer behaves. Times in seconds."""

    name: str
    channels: tuple[str, ...] = ()
    from_oldest: bool = False
    pause: float = 0.0
    """Mean pause between entries, in a third of them."""
    stay: float = 1.0
    """How long a follower lives at most."""
    away: float = 0.2
    """How long there is none at most."""


class Consumer:
    """One consumer, whose stream goes on through many followers."""

    def __init__(
        self, habit: Habit, logs: Sequence[EventLog], seed: int, note: Callable[[str], None], *, resumes: bool
    ) -> None:
        self.streams: list[Stream] = []
        self.resumed = 0
        self.channels = habit.channels
        self._habit = habit
        self._logs = logs
        self._note = note
        self._resumes = resumes
        """Whether it resumes by position. If not, it begins a new stream."""
        self._rng = random.Random(f"{seed} {habit.name}")
        self._position = 0
        self._calm = Event()
        self._arrived = Event()
        self._last = ""

    def run(self) -> None:
        """Consume until the log is closed."""
        while True:
            try:
                follower = self._follow()
            except pglisten.ListenerClosed:
                return
            except pglisten.Error as error:
                self._note(f"{self._habit.name}: follow() raised {error!r}")
                return
            self._use(follower)
            if all(log.closed for log in self._logs):
                return
            self._calm.wait(self._rng.uniform(0.0, self._habit.away))

    def calm_down(self) -> None:
        """Be quick from now on, and stay."""
        self._calm.set()

    def wait_for(self, payload: str, timeout: float) -> bool:
        """Wait until the entry with *payload* is the last that has come; return whether it has."""
        ends = time.monotonic() + timeout
        while self._last != payload and (left := ends - time.monotonic()) > 0:
            self._arrived.clear()
            self._arrived.wait(left)
        return self._last == payload

    def describe(self) -> str:
        """Return its name, and where it is."""
        return f"{self._habit.name} at {self.streams[-1:] and self.streams[-1].items[-1:]}"

    def _follow(self) -> Follower:
        log, habit = self._rng.choice(self._logs), self._habit
        # In pages of one entry, it would not catch up in time.
        pages = 256 if self._calm.is_set() else self._rng.choice((1, 16, 256, 256))
        if self.streams and self._resumes:
            self.resumed += 1
            return log.follow(*habit.channels, after=self._position, queue_size=pages, timeout=HANG)
        start = 0 if habit.from_oldest else None
        follower = log.follow(*habit.channels, after=start, queue_size=pages, timeout=HANG)
        # Nothing has run since.
        began = time.monotonic() if self._resumes and not habit.from_oldest else math.inf
        stream = Stream(
            f"{habit.name} {len(self.streams)}", frozenset(habit.channels), follower.position, began
        )
        self.streams.append(stream)
        return follower

    def _use(self, follower: Follower) -> None:
        """Consume in one or two greenlets, some of which are killed."""
        ending = self._rng.choice(("close", "kill", "forget"))
        some = [gevent.spawn(self._consume, follower) for _ in range(self._rng.choice((1, 1, 2)))]
        if self._calm.is_set():
            gevent.joinall(some)
            return
        self._calm.wait(self._rng.uniform(0.0, self._habit.stay))
        if ending == "close":
            follower.close()
            gevent.joinall(some)
        else:
            gevent.killall(some)
        self._position = follower.position

    def _consume(self, follower: Follower) -> None:
        stream = self.streams[-1]
        while True:
            try:
                item = follower.get(self._rng.choice((None, None, 0.0, 0.01)))
            except pglisten.OperationTimeout:
                continue
            except pglisten.ListenerClosed:
                return
            except pglisten.Error as error:
                self._note(f"{self._habit.name}: get() raised {error!r}")
                gevent.sleep(0.1)
                continue
            # No switch since: it is recorded even if this greenlet is killed now.
            stream.items.append((time.time(), item))
            self._last = "" if item is None else item.payload
            self._arrived.set()
            if self._habit.pause and not self._calm.is_set() and self._rng.random() < 0.3:
                self._calm.wait(self._rng.expovariate(1 / self._habit.pause))
