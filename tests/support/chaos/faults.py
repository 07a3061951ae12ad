"""Faults of a chaos run: first drawn from a seed, then carried out.

Two lanes run side by side, the network's and the servers', each with one fault after another. A fault that
has ended leaves nothing frozen, stalled, or about to be cut.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gevent

from pglisten import Broadcaster, Listener
from pglisten.testing import Proxy
from pglisten.testing._proxy import BOTH, DOWN, UP, Direction
from support.chaos.history import Fault, History
from support.chaos.servers import Servers

NETWORK = (
    "fin",
    "rst",
    "fin inside a message",
    "rst inside a message",
    "black hole up",
    "black hole down",
    "black hole",
    "stall up",
    "stall down",
    "freeze",
    "delay",
    "byte by byte",
    "refuse",
)
SERVER = ("terminate", "server freeze", "server crash", "fast restart", "immediate restart", "terminate")
FAILOVER = "failover"


@dataclass(frozen=True)
class Planned:
    """One fault: how long it lasts, and how long the lane rests after it, in seconds."""

    kind: str
    hold: float
    rest: float
    amount: int
    """Where a kind has one: of bytes, for instance."""


def plan(seed: int, lane: str, kinds: Sequence[str], seconds: float) -> list[Planned]:
    """Return the faults of one lane, about *seconds* in all; the same for the same arguments.

    Every kind comes up before any comes up again.
    """
    # A text as seed does not depend on PYTHONHASHSEED.
    rng = random.Random(f"{seed} {lane}")
    planned: list[Planned] = []
    deck: list[str] = []
    while seconds > 0:
        if not deck:
            deck = rng.sample(list(kinds), len(kinds))
        # Some are over before a heartbeat can find them, some are not.
        hold = rng.choice((0.02, 0.15, 0.5, 1.2)) * rng.uniform(0.5, 1.5)
        rest = rng.choice((0.0, 0.1, 0.5, 0.8)) * rng.uniform(0.5, 1.5)
        planned.append(Planned(deck.pop(), hold, rest, rng.randint(1, 400)))
        seconds -= hold + rest
    return planned


class Faults:
    """Carries plans out on the network and the servers below *listener*."""

    def __init__(
        self, history: History, servers: Servers, proxies: Sequence[Proxy], listener: Listener | Broadcaster
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._history = history
        self._servers = servers
        self._proxies = proxies
        self._listener = listener
        self._kinds: Mapping[str, Callable[[Planned], None]] = {
            "fin": lambda fault: self._each(lambda proxy: proxy.cut("fin")),
            "rst": lambda fault: self._each(lambda proxy: proxy.cut("rst")),
            "fin inside a message": lambda fault: self._cut_inside(fault, rst=False),
            "rst inside a message": lambda fault: self._cut_inside(fault, rst=True),
            "black hole up": lambda fault: self._black_hole(fault, UP),
            "black hole down": lambda fault: self._black_hole(fault, DOWN),
            "black hole": lambda fault: self._black_hole(fault, BOTH),
            "stall up": lambda fault: self._stall(fault, UP),
            "stall down": lambda fault: self._stall(fault, DOWN),
            "freeze": lambda fault: self._stall(fault, BOTH),
            "delay": self._delay,
            "byte by byte": self._split,
            "refuse": self._refuse,
            "terminate": self._terminate,
            "server freeze": self._freeze_server,
            "server crash": lambda fault: self._restart(fault, "crash"),
            "fast restart": lambda fault: self._restart(fault, "fast"),
            "immediate restart": lambda fault: self._restart(fault, "immediate"),
            FAILOVER: self._fail_over,
        }

    def carry_out(self, planned: Sequence[Planned]) -> None:
        """Carry out one lane's plan; return when everything works again."""
        for fault in planned:
            self._history.note(Fault(f"{fault.kind} for {fault.hold:.3f} s"))
            self.counts[fault.kind] += 1
            self._kinds[fault.kind](fault)
            self._history.note(Fault(f"{fault.kind} is over"))
            gevent.sleep(fault.rest)

    def _each(self, action: Callable[[Proxy], None]) -> None:
        for proxy in self._proxies:
            action(proxy)

    # The network

    def _cut_inside(self, fault: Planned, *, rst: bool) -> None:
        self._each(lambda proxy: proxy.cut_after(fault.amount, "rst" if rst else "fin"))
        gevent.sleep(fault.hold)
        self._each(lambda proxy: proxy.cut_after(None))

    def _black_hole(self, fault: Planned, direction: Direction) -> None:
        self._each(lambda proxy: proxy.drop(direction))
        gevent.sleep(fault.hold)
        # What has lost bytes must never be heard of again: TCP would not deliver the rest either.
        self._each(lambda proxy: proxy.cut("rst" if fault.amount % 2 else "fin"))
        self._each(lambda proxy: proxy.release())

    def _stall(self, fault: Planned, direction: Direction) -> None:
        self._each(lambda proxy: proxy.stall(direction))
        gevent.sleep(fault.hold)
        self._each(lambda proxy: proxy.release())

    def _delay(self, fault: Planned) -> None:
        self._each(lambda proxy: proxy.delay(fault.amount / 4000))
        gevent.sleep(fault.hold)
        self._each(lambda proxy: proxy.delay(0))

    def _split(self, fault: Planned) -> None:
        self._each(lambda proxy: proxy.split(1 + fault.amount % 7))
        # Each piece takes a turn of the event loop: for long, no other greenlet would get one.
        gevent.sleep(min(fault.hold, 0.3))
        self._each(lambda proxy: proxy.split(None))

    def _refuse(self, fault: Planned) -> None:
        self._each(lambda proxy: proxy.refuse())
        self._each(lambda proxy: proxy.cut("rst" if fault.amount % 2 else "fin"))
        gevent.sleep(fault.hold)
        self._each(lambda proxy: proxy.accept())

    # The servers

    def _terminate(self, fault: Planned) -> None:
        pid = self._listener.stats().server_pid
        if pid is not None:
            self._servers.primary.terminate(pid)

    def _freeze_server(self, fault: Planned) -> None:
        primary = self._servers.primary
        primary.freeze()
        gevent.sleep(fault.hold)
        primary.thaw()

    def _restart(self, fault: Planned, how: str) -> None:
        primary = self._servers.primary
        if how == "crash":
            primary.kill()
        else:
            primary.stop("fast" if how == "fast" else "immediate")
        gevent.sleep(fault.hold)
        primary.start()

    def _fail_over(self, fault: Planned) -> None:
        # The sender may not go on with one server while the listener stays with the other.
        self._servers.fail_over(lambda: gevent.sleep(fault.hold))
