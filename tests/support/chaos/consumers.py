"""Consumers of a chaos run, which are slow, asleep or killed, and a callback that is slow or raises."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

import gevent
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerEvent, Notification
from support.chaos.history import Broken, Called, Consumed, History, Returned


class Consumers:
    """One consumer, at times several, until the listener is closed and its queue empty."""

    def __init__(self, history: History, listener: Listener, seed: int) -> None:
        self.consumed = 0
        self.markers = 0
        self._history = history
        self._listener = listener
        self._rng = random.Random(f"{seed} consumers")
        self._came: set[tuple[str, str]] = set()
        self._arrived = Event()
        self._calm = Event()
        self._ended = Event()

    def run(self) -> None:
        """Consume until the end, in greenlets that do not live long."""
        while not self._ended.is_set():
            count = self._rng.choice((1, 1, 1, 3))
            some = [gevent.spawn(self._consume, self._rng.choice(("quick", "slow"))) for _ in range(count)]
            lifetime = self._rng.uniform(0.05, 0.5)
            if self._calm.is_set():
                gevent.joinall(some)
            elif self._rng.random() < 0.15:
                gevent.killall(some)
                # No consumer is left, and the queue fills.
                self._calm.wait(lifetime)
            else:
                self._ended.wait(lifetime)
            gevent.killall(some)

    def calm_down(self) -> None:
        """Have one quick consumer from now on, which is never killed."""
        self._calm.set()

    def wait_for(self, awaited: Iterable[tuple[str, int]], timeout: float) -> bool:
        """Wait until these numbers have come on their channels; return whether they have.

        Another gap marker ends the wait, since they may be what it stands for.
        """
        missing = {(channel, str(number)) for channel, number in awaited}
        before = self.markers
        deadline = time.monotonic() + timeout
        while (
            not missing <= self._came
            and self.markers == before
            and (remaining := deadline - time.monotonic()) > 0
        ):
            self._arrived.clear()
            self._arrived.wait(remaining)
        return missing <= self._came

    def _consume(self, pace: str) -> None:
        while True:
            try:
                item = self._listener.get(self._rng.choice((None, None, 0.0, 0.01)))
            except pglisten.OperationTimeout:
                continue
            except pglisten.ListenerClosed:
                self._ended.set()
                return
            self._take(item)
            if self._calm.is_set():
                continue
            if pace == "slow" and self._rng.random() < 0.5:
                self._calm.wait(self._rng.expovariate(1 / 0.004))
            elif self._rng.random() < 0.002:
                self._ask()

    def _take(self, item: Notification | None) -> None:
        # No switch since the queue handed it over: it is recorded even if this greenlet is killed now.
        if item is None:
            self.markers += 1
            self._history.note(Consumed(None, self._listener.stats().overflows))
        else:
            self.consumed += 1
            self._history.note(Consumed(item, 0))
            self._came.add((item.channel, item.payload.partition(" ")[0]))
        self._arrived.set()

    def _ask(self) -> None:
        # A consumer's own call must be answered even if the queue is full.
        try:
            self._listener.ping(1.0)
        except (pglisten.NotConnected, pglisten.ConnectionLost, pglisten.OperationTimeout):
            pass
        except pglisten.ListenerClosed as error:
            if not self._calm.is_set():
                self._history.note(Broken(f"a consumer's ping raised {error!r}"))


class Callback:
    """An event callback that records its calls; some calls are slow, some raise, some call the listener."""

    def __init__(self, history: History, seed: int) -> None:
        self.call: Callable[[random.Random], None] = lambda rng: None
        """Makes one random call of the listener."""
        self._history = history
        self._rng = random.Random(f"{seed} callback")
        self._calm = Event()

    def __call__(self, event: ListenerEvent, error: Exception | None) -> None:
        kind = "" if error is None else type(error).__name__
        self._history.note(Called(event.name, kind, str(error or "")))
        try:
            lot = self._rng.random()
            if lot < 0.2:
                self._calm.wait(self._rng.uniform(0.0, 0.4))
            elif lot < 0.3 and not self._calm.is_set():
                raise RuntimeError("a callback may raise")
            elif lot < 0.45 and not self._calm.is_set():
                self.call(self._rng)
        finally:
            self._history.note(Returned(event.name))

    def calm_down(self) -> None:
        """Return at once from now on."""
        self._calm.set()
