"""One chaos run: everything at the same time, then calm, then the judgement."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gevent
import gevent.util

import pglisten
from pglisten import Listener
from pglisten.testing import Proxy
from support.chaos.callers import Callers
from support.chaos.checker import count_covered, violations
from support.chaos.consumers import Callback, Consumers
from support.chaos.digest import Violation
from support.chaos.faults import FAILOVER, NETWORK, SERVER, Faults, plan
from support.chaos.history import Broken, Fault, Final, History
from support.chaos.sender import Sender
from support.chaos.servers import Servers
from support.fixtures.leaks import settle
from support.timeouts import RECOVERY_TIMEOUT

STEADY = ("steady one", "steady two")
FICKLE = ("fickle one", "fickle two", 'fickle "three"')
OWN = "own"
QUEUE_SIZE = 64
CALLERS = 5

FLOW_ATTEMPTS = 20
"""Losses that may come to light after the last fault: a connection that looks alive until it is pinged."""
PROMPT = 10.0
"""Seconds for close(), which promises one: ten times that, for a machine with other things to do."""


@dataclass(frozen=True)
class Setting:
    """What distinguishes one run from another."""

    seed: int
    seconds: float
    backend: str
    overflow: Literal["block", "drop_oldest"]


class Run:
    """A listener on *servers*, through a proxy before each, and all that happens to it."""

    def __init__(self, setting: Setting, servers: Servers, make_proxy: Callable[[object], Proxy]) -> None:
        self.history = history = History()
        self._setting = setting
        self._servers = servers
        self._proxies = [make_proxy(server) for server in servers.all]
        self._callback = Callback(history, setting.seed)
        self.listener = listener = Listener(
            servers.dsn(self._proxies),
            backend=setting.backend,
            min_reconnect_interval=0.02,
            max_reconnect_interval=0.2,
            event_callback=self._callback,
            queue_size=QUEUE_SIZE,
            overflow=setting.overflow,
            connect_timeout=1.0,
            heartbeat_interval=0.3,
            heartbeat_timeout=0.3,
        )
        self.faults = Faults(history, servers, self._proxies, listener)
        self._consumers = Consumers(history, listener, setting.seed)
        self._callers = Callers(history, listener, steady=STEADY, fickle=FICKLE, own=OWN, seed=setting.seed)
        self._callback.call = self._callers.once
        rng = random.Random(f"{setting.seed} sender")
        # Twice the steady ones: most is to be expected.
        self._sender = Sender(history, servers, (*STEADY, *STEADY, *FICKLE), rng)

    def play(self) -> None:
        """Run it, and close everything."""
        seed, seconds = self._setting.seed, self._setting.seconds
        server_faults = (*SERVER, FAILOVER) if self._servers.can_fail_over else SERVER
        consuming = gevent.spawn(self._consumers.run)
        try:
            self._callers.keep()
            sending = gevent.spawn(self._sender.run)
            calling = [gevent.spawn(self._callers.run, number) for number in range(CALLERS)]
            lanes = [
                gevent.spawn(self.faults.carry_out, plan(seed, "network", NETWORK, seconds)),
                gevent.spawn(self.faults.carry_out, plan(seed, "servers", server_faults, seconds)),
            ]
            gevent.joinall(lanes, raise_error=True)
            self.history.note(Fault("the last fault is over"))
            self._sender.stop()
            self._callers.stop()
            self._consumers.calm_down()
            self._callback.calm_down()
            self._end("the sender", [sending])
            self._end("callers", calling)
            self._flow()
        finally:
            self._close(consuming)

    def _flow(self) -> None:
        """Show that a notification sent now arrives on every channel."""
        self._callers.keep()
        for _ in range(FLOW_ATTEMPTS):
            try:
                self.listener.wait_connected(RECOVERY_TIMEOUT)
                self.listener.ping(RECOVERY_TIMEOUT)
            except (pglisten.NotConnected, pglisten.ConnectionLost):
                continue
            except pglisten.OperationTimeout as error:
                self._broken(f"the connection does not come back: {error!r}")
                return
            numbers = self._sender.commit(STEADY)
            if numbers is not None and self._consumers.wait_for(
                zip(STEADY, numbers, strict=True), RECOVERY_TIMEOUT
            ):
                return
        self._broken("notifications do not flow again")

    def _close(self, consuming: gevent.Greenlet[..., Any]) -> None:
        started = time.monotonic()
        self.listener.close()
        if (took := time.monotonic() - started) > PROMPT:
            self._broken(f"close() took {took:.1f} s")
        self._end("consumers", [consuming])
        self._sender.close()
        self.history.note(Final(self.listener.stats()))
        for server in self._servers.all:
            if settle(server.sessions, 0):
                self._broken(f"sessions are left on {server!r}: {server.pids()}")

    def _end(self, what: str, greenlets: Sequence[gevent.Greenlet[..., Any]]) -> None:
        """Wait for the end of *greenlets*, and pass on what they raised."""
        gevent.joinall(greenlets, timeout=RECOVERY_TIMEOUT)
        if not all(each.dead for each in greenlets):
            self._broken(f"{what} do not come to an end")
            gevent.killall(greenlets)
        gevent.joinall(greenlets, raise_error=True)

    def _broken(self, text: str) -> None:
        # Record now where each greenlet waits: a moment later it is unknown.
        stacks = "\n".join(gevent.util.format_run_info(thread_stacks=False))  # type: ignore[arg-type]
        self.history.note(Broken(f"{text}\n{self.listener!r} {self.listener.stats()}\n{stacks}"))

    # The judgement

    def violations(self) -> list[Violation]:
        return violations(self.history.records)

    def describe(self, violation: Violation) -> str:
        """Return what is wrong, and the history around it: the place, and what its channel went through."""
        text = f"{violation.kind}: {violation.text}\n{self.history.excerpt(violation.place)}"
        if violation.sent is not None:
            sending = violation.sent.sending
            past = self.history.excerpt_of(sending.channel, violation.sent.began)
            text += f"\n\n{sending.channel} when it was sent:\n{past}"
        return text

    def report(self) -> str:
        """Return one line of figures."""
        setting, stats, faults = self._setting, self.listener.stats(), self.faults.counts
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items()))
        return (
            f"{setting.backend} {setting.overflow} on {len(self._servers.all)} server(s), "
            f"seed {setting.seed}, {setting.seconds:g} s: {faults.total()} faults ({kinds}); "
            f"{stats.reconnects} reconnects, {stats.failed_attempts} failed attempts, "
            f"{self._callers.calls.total()} calls; {self._sender.sent} sent and {self._sender.committed} "
            f"committed, {self._callers.sent} by the listener itself; {self._consumers.consumed} received, "
            f"{count_covered(self.history.records)} missing with a marker ({stats.dropped} dropped), "
            f"{self._consumers.markers} None"
        )
