"""Greenlets that call one listener at random moments; some are killed or time out during a call."""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Callable, Sequence

import gevent
from gevent.event import Event

import pglisten
from pglisten import Listener
from support.chaos.history import (
    LISTENER,
    Acknowledged,
    Broken,
    History,
    Leaving,
    Opening,
    Sending,
    Settled,
    Shut,
)

HANG = 30.0
"""Seconds after its timeout at which a call counts as hung; no fault lasts three seconds."""

EXPECTED = {
    "listen": (pglisten.ChannelAlreadyOpen, pglisten.ChannelNotOpen, pglisten.OperationTimeout),
    "unlisten": (pglisten.ChannelNotOpen, pglisten.OperationTimeout),
    "unlisten_all": (pglisten.OperationTimeout,),
    "notify": (pglisten.NotConnected, pglisten.ConnectionLost, pglisten.OperationTimeout),
    "ping": (pglisten.NotConnected, pglisten.ConnectionLost, pglisten.OperationTimeout),
}
"""Errors that the documentation lets each call raise; any other is a violation."""


class Subscriptions:
    """Calls that change the set of channels, with records of what is certain.

    Several greenlets call for the same channel at the same time. A call that overlaps with one that undoes it
    proves nothing, and is not recorded.
    """

    def __init__(self, history: History, listener: Listener) -> None:
        self._history = history
        self._listener = listener
        self._opened: Counter[str] = Counter()
        self._left: Counter[str] = Counter()

    def listen(self, channel: str, timeout: float | None = None) -> None:
        left = self._left[channel]
        self._opened[channel] += 1
        self._history.note(Opening(channel))
        self._listener.listen(channel, timeout)
        if self._left[channel] == left:
            self._history.note(Acknowledged(channel))

    def unlisten(self, channel: str, timeout: float | None = None) -> None:
        self._leave([channel], lambda: self._listener.unlisten(channel, timeout))

    def unlisten_all(self, timeout: float | None = None) -> None:
        # Channels that another greenlet opens during the call were not in the set when it began.
        self._leave(sorted(self._listener.channels), lambda: self._listener.unlisten_all(timeout))

    def _leave(self, channels: Sequence[str], call: Callable[[], None]) -> None:
        for channel in channels:
            self._left[channel] += 1
        before = [(channel, self._opened[channel]) for channel in channels]
        self._history.note(*(Leaving(channel) for channel in channels))
        call()
        self._history.note(*(Shut(c) for c, opened in before if self._opened[c] == opened))


class Callers:
    """Several greenlets, each of which makes one call after another until `stop`.

    *steady* channels are listened to nearly always, *fickle* ones at times; *own* is the channel of the
    listener's own notifications.
    """

    def __init__(
        self,
        history: History,
        listener: Listener,
        *,
        steady: Sequence[str],
        fickle: Sequence[str],
        own: str,
        seed: int,
    ) -> None:
        self.calls: Counter[str] = Counter()
        self.sent = 0
        self.subscriptions = Subscriptions(history, listener)
        self._history = history
        self._listener = listener
        self.kept = (*steady, own)
        self._fickle = fickle
        self._own = own
        self._seed = seed
        self._stopping = Event()

    def run(self, number: int) -> None:
        """Call until `stop`; each *number* is a greenlet with random numbers of its own."""
        rng = random.Random(f"{self._seed} caller {number}")
        while not self._stopping.is_set():
            self.once(rng)
            self._stopping.wait(rng.choice((0, 0.005, 0.05)) * rng.uniform(0.5, 1.5))

    def stop(self) -> None:
        self._stopping.set()

    def once(self, rng: random.Random) -> None:
        """Make one call, and let it end as the random numbers say."""
        name = rng.choices(tuple(EXPECTED), weights=(40, 30, 0.3, 15, 15))[0]
        self.calls[name] += 1
        self._call(name, rng)
        if name == "unlisten_all":
            self.keep()

    def keep(self) -> None:
        """Listen to the steady channels that are not listened to."""
        for channel in self.kept:
            self._guarded("listen", functools.partial(self.subscriptions.listen, channel), None)

    def _call(self, name: str, rng: random.Random) -> None:
        limit = rng.choice((0.0, 0.001, 0.01, 0.1, 1.0))
        channel = rng.choice(self._fickle)
        end = rng.choice(("timeout", "gevent.Timeout", "kill", "none"))
        timeout = limit if end == "timeout" else None
        subscriptions, listener = self.subscriptions, self._listener
        calls: dict[str, Callable[[], object]] = {
            "listen": lambda: subscriptions.listen(channel, timeout),
            "unlisten": lambda: subscriptions.unlisten(channel, timeout),
            "unlisten_all": lambda: subscriptions.unlisten_all(timeout),
            "notify": lambda: self._notify(timeout),
            "ping": lambda: listener.ping(timeout),
        }
        if end == "gevent.Timeout":
            with gevent.Timeout(limit, False):  # type: ignore[arg-type]
                self._guarded(name, calls[name], limit)
        elif end == "kill":
            victim = gevent.spawn(self._guarded, name, calls[name], limit)
            victim.join(limit)
            victim.kill()
        else:
            self._guarded(name, calls[name], timeout)

    def _guarded(self, name: str, call: Callable[[], object], limit: float | None) -> None:
        hung = gevent.Timeout((limit or 0.0) + HANG)
        try:
            with hung:
                call()
        except EXPECTED[name]:
            pass
        except gevent.Timeout as expired:
            if expired is not hung:
                raise  # The caller's own gevent.Timeout.
            self._history.note(Broken(f"{name} has not returned: {self._listener!r}"))
        except pglisten.ServerError as error:
            # Without channels the listener may be connected to a standby, which refuses to write.
            if (name, error.sqlstate) != ("notify", "25006"):
                self._history.note(Broken(f"{name} raised {error!r}"))
        except pglisten.ListenerClosed as error:
            if not self._stopping.is_set():
                self._history.note(Broken(f"{name} raised {error!r}"))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not what was promised
            self._history.note(Broken(f"{name} raised {error!r}"))

    def _notify(self, timeout: float | None) -> None:
        number = self.sent
        self.sent += 1
        self._history.note(Sending(LISTENER, number, self._own, f"{number} by the listener"))
        self._listener.notify(self._own, f"{number} by the listener", timeout)
        self._history.note(Settled(LISTENER, number, number, True))
