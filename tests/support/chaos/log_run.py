"""One chaos run of event logs: everything at the same time, then calm, then the judgement."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.util
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, EventLog
from pglisten.testing import Proxy
from support.chaos.faults import FAILOVER, NETWORK, SERVER, Faults, plan
from support.chaos.history import History
from support.chaos.log_checker import (
    Violation,
    order_violations,
    start_violations,
    stream_violations,
    table_violations,
)
from support.chaos.log_followers import Consumer, Habit
from support.chaos.log_servers import LogServers
from support.chaos.log_table import watch
from support.chaos.log_writers import APPLICATION, Transaction, Writers
from support.fixtures.leaks import settle
from support.timeouts import RECOVERY_TIMEOUT

LOGS = ("events", "others")
CHANNELS = ("one", "two", 'the "third"')

HABITS = {
    "events": (
        Habit("always there", stay=1e9),
        Habit("one channel", ("one",), stay=3.0),
        Habit("slow", ("one", "two"), pause=0.02, stay=2.0),
        Habit("visitor", from_oldest=True, stay=0.5, away=1.0),
        Habit("late", from_oldest=True, pause=0.005, away=3.0),
    ),
    "others": (Habit("other log", stay=2.0), Habit("other channel", ("two",), from_oldest=True, away=1.0)),
}

CATCH_UP = 120.0
"""Seconds in which each consumer must have read all that is left."""

FLOW_ATTEMPTS = 20


@dataclass(frozen=True)
class Setting:
    """What distinguishes one run from another."""

    seed: int
    seconds: float
    backend: str
    topology: str
    bulk: int
    """Rows that are copied in one transaction."""


class LogRun:
    """Two logs, two readers for each behind a proxy for each server, and all that happens to them."""

    def __init__(
        self, setting: Setting, servers: LogServers, make_proxy: Callable[[object], Proxy], folder: Path
    ) -> None:
        self._setting = setting
        self._servers = servers
        self.broken: list[Violation] = []
        self.trimmed = 0
        self._own: list[Transaction] = []
        self._entries: list[int] = []
        self._stopping = Event()
        for name in LOGS:
            watch(servers.primary, name)
        proxies = [make_proxy(server) for server in servers.all]
        through = servers.dsn(proxies) + (" target_session_attrs=read-write" if servers.can_fail_over else "")
        self._broadcasters = [self._broadcaster(through), self._broadcaster(through)]
        self._logs = {
            name: [
                EventLog(name, broadcaster, window=window)
                for broadcaster, window in zip(self._broadcasters, (64, 2000), strict=True)
            ]
            for name in LOGS
        }
        # What this process writes must not stay in a proxy, to be carried out after a loss was recorded.
        writing = self._broadcaster(servers.direct_dsn()) if servers.loses else self._broadcasters[0]
        self._writing = {name: EventLog(name, writing) for name in LOGS}
        if servers.loses:
            self._broadcasters.append(writing)
        self.faults = Faults(History(), servers, proxies, self._broadcasters[0])
        dsn = servers.direct_dsn(application_name=APPLICATION, connect_timeout=2)
        tables = [f"public.{name}" for name in LOGS]
        self._writers = servers.writers = Writers(dsn, tables, CHANNELS, folder, setting.seed, setting.bulk)
        self.consumers = {
            name: [
                Consumer(
                    habit,
                    [self._logs[name][number % 2]] if servers.loses else self._logs[name],
                    setting.seed,
                    self._broken,
                    resumes=not servers.loses,
                )
                for number, habit in enumerate(habits)
            ]
            for name, habits in HABITS.items()
        }

    def _broadcaster(self, dsn: str) -> Broadcaster:
        return Broadcaster(
            dsn,
            backend=self._setting.backend,
            min_reconnect_interval=0.02,
            max_reconnect_interval=0.2,
            connect_timeout=1.0,
            heartbeat_interval=0.3,
            heartbeat_timeout=0.3,
        )

    @property
    def _everyone(self) -> list[Consumer]:
        return [each for consumers in self.consumers.values() for each in consumers]

    def play(self) -> None:
        """Run it, and close everything."""
        seed, seconds = self._setting.seed, self._setting.seconds
        server_faults = (*SERVER, FAILOVER) if self._servers.can_fail_over else SERVER
        consuming = [gevent.spawn(each.run) for each in self._everyone]
        try:
            self._writers.start()
            others = [gevent.spawn(run) for run in (self._writers.run, self._append, self._trim)]
            lanes = [
                gevent.spawn(self.faults.carry_out, plan(seed, "network", NETWORK, seconds)),
                gevent.spawn(self.faults.carry_out, plan(seed, "servers", server_faults, seconds)),
            ]
            gevent.joinall(lanes, raise_error=True)
            self._stopping.set()
            self._writers.stop()
            self._end("writers", others)
            if not self._writers.wait_for_bulk(CATCH_UP):
                self._broken(f"{self._setting.bulk} rows are not copied")
            self._writers.close()
            self._servers.wait_until_gone(APPLICATION)
            for each in self._everyone:
                each.calm_down()
            self._flow()
        finally:
            self._close(consuming)

    def _append(self) -> None:
        """Append over the sessions that are under attack."""
        rng, number = random.Random(f"{self._setting.seed} appends"), 0
        while not self._stopping.wait(rng.uniform(0.0, 0.1)):
            number += 1
            said = Transaction(time.monotonic(), [f"own/{number}"])
            with self._servers.held_up():
                said.began = time.monotonic()
                try:
                    self._writing[rng.choice(LOGS)].append(
                        rng.choice(CHANNELS), said.payloads[0], timeout=2.0
                    )
                except (pglisten.NotConnected, pglisten.ServerError):
                    continue  # Certainly not committed.
                except (pglisten.ConnectionLost, pglisten.OperationTimeout):
                    self._own.append(said)
                    continue
            said.committed = time.monotonic()
            self._own.append(said)

    def _trim(self) -> None:
        rng = random.Random(f"{self._setting.seed} trims")
        while not self._stopping.wait(rng.uniform(0.1, 0.5)):
            with self._servers.held_up():
                try:
                    keep = rng.choice((50, 200, 1000, 10_000))
                    self.trimmed += self._writing[rng.choice(LOGS)].trim(keep=keep, timeout=2.0)
                except (pglisten.NotConnected, pglisten.ConnectionLost, pglisten.OperationTimeout):
                    pass
                except pglisten.ServerError as error:
                    if error.sqlstate[:2] not in ("25", "57"):
                        self._broken(f"trim raised {error!r}")

    def _flow(self) -> None:
        """Append a last entry to each channel, and wait until each consumer has it."""
        for attempt in range(FLOW_ATTEMPTS if self._servers.loses else 1):
            for name in self.consumers:
                for channel in CHANNELS:
                    said = Transaction(time.monotonic(), [f"last/{attempt}/{name}/{channel}"])
                    sql = f"INSERT INTO {name} (channel, payload) VALUES (%s, %s)"
                    self._servers.primary.query(sql, channel, said.payloads[0])
                    said.committed = time.monotonic()
                    self._own.append(said)
            # A consumer that was told of a loss may begin behind these.
            wait = 5.0 if attempt < FLOW_ATTEMPTS - 1 and self._servers.loses else CATCH_UP
            ends = time.monotonic() + wait
            late = [
                consumer
                for name, consumers in self.consumers.items()
                for consumer in consumers
                if not consumer.wait_for(self._last(attempt, name, consumer), ends - time.monotonic())
            ]
            if not late:
                return
            print("without the last entries:", *(each.describe() for each in late))
        self._broken(f"entries do not flow again: {[each.describe() for each in late]}")

    @staticmethod
    def _last(attempt: int, name: str, consumer: Consumer) -> str:
        channels = consumer.channels or CHANNELS
        return f"last/{attempt}/{name}/{[each for each in CHANNELS if each in channels][-1]}"

    def _close(self, consuming: Sequence[gevent.Greenlet[..., Any]]) -> None:
        self._stopping.set()
        self._writers.close()
        for each in self._everyone:
            each.calm_down()
        for logs in (*self._logs.values(), self._writing.values()):
            for log in logs:
                log.close()
        for broadcaster in self._broadcasters:
            broadcaster.close()
        self._end("consumers", consuming)
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
        self.broken.append(Violation("call", f"{text}\n{stacks}"))

    # The judgement

    def judge(self) -> list[Violation]:
        """Return all violations, and keep what the report needs."""
        generations = [*self._servers.generations, self._servers.tables()]
        self._entries = [len(table.entries) for table in generations[-1]]
        written = [*self._writers.said(), *self._own]
        found = [*self.broken, *table_violations(generations, written)]
        for number, name in enumerate(LOGS):
            tables = [tables[number] for tables in generations]
            for table in tables:
                found += order_violations(table, written)
            for consumer in self.consumers[name]:
                for stream in consumer.streams:
                    found += stream_violations(stream, tables)
                found += start_violations(consumer.streams, tables[-1], written)
        return found

    def report(self) -> str:
        """Return one line of figures."""
        setting, faults = self._setting, self.faults.counts
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items()))
        streams = [stream for each in self._everyone for stream in each.streams]
        items = sum(len(stream.items) for stream in streams)
        gaps = sum(item is None for stream in streams for _, item in stream.items)
        return (
            f"log, {setting.backend}, {setting.topology}, seed {setting.seed}, {setting.seconds:g} s: "
            f"{faults.total()} faults ({kinds}), {self._writers.killed} writers killed, "
            f"{sum(each.stats().reconnects for each in self._broadcasters)} reconnects; "
            f"{' and '.join(map(str, self._entries))} entries, {self.trimmed} trimmed, "
            f"{len(self._servers.generations)} times some lost by a failover; "
            f"{len(self._everyone)} consumers, {sum(each.resumed for each in self._everyone)} times resumed, "
            f"got {items - gaps} and {gaps} None"
        )
