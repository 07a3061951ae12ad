"""One chaos run of event logs: everything at the same time, then calm, then the judgement."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
import gevent.util

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
from support.chaos.log_consumers import NamedConsumer, make_results
from support.chaos.log_followers import Consumer, Habit
from support.chaos.log_own_writes import OwnWrites
from support.chaos.log_results import result_violations
from support.chaos.log_servers import LogServers
from support.chaos.log_table import Table, watch
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

NAMED = ("events", ("one", "two"))
"""What the named consumer consumes."""

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
        self._entries: list[int] = []
        self._worked = ""
        for name in LOGS:
            watch(servers.primary, name)
        make_results(servers.primary)
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
        self._own = OwnWrites(self._writing, CHANNELS, servers, setting.seed, self._broken)
        if servers.loses:
            self._broadcasters.append(writing)
        self.faults = Faults(History(), servers, proxies, self._broadcasters[0])
        dsn = servers.direct_dsn(application_name=APPLICATION, connect_timeout=2)
        tables = [f"public.{name}" for name in LOGS]
        self._writers = servers.writers = Writers(dsn, tables, CHANNELS, folder, setting.seed, setting.bulk)
        self._named = NamedConsumer(
            [through, setting.backend],
            *NAMED,
            folder,
            setting.seed,
            self._broken,
        )
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
            self._named.start()
            self._writers.start()
            runs = (self._writers.run, self._named.run, self._own.append, self._own.trim)
            others = [gevent.spawn(run) for run in runs]
            lanes = [
                gevent.spawn(self.faults.carry_out, plan(seed, "network", NETWORK, seconds)),
                gevent.spawn(self.faults.carry_out, plan(seed, "servers", server_faults, seconds)),
            ]
            gevent.joinall(lanes, raise_error=True)
            self._stop()
            self._end("writers", others)
            if not self._writers.wait_for_bulk(CATCH_UP):
                self._broken(f"{self._setting.bulk} rows are not copied")
            self._writers.close()
            self._servers.wait_until_gone(APPLICATION)
            self._named.calm_down()
            for each in self._everyone:
                each.calm_down()
            self._flow()
        finally:
            self._close(consuming)

    def _stop(self) -> None:
        for each in (self._own, self._writers, self._named):
            each.stop()

    def _flow(self) -> None:
        """Append a last entry to each channel, and wait until each consumer has it."""
        for attempt in range(FLOW_ATTEMPTS if self._servers.loses else 1):
            for name in self.consumers:
                for channel in CHANNELS:
                    said = Transaction(time.monotonic(), [f"last/{attempt}/{name}/{channel}"])
                    sql = f"INSERT INTO {name} (channel, payload) VALUES (%s, %s)"
                    self._servers.primary.query(sql, channel, said.payloads[0])
                    said.committed = time.monotonic()
                    self._own.said.append(said)
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
                self._wait_for_results(attempt)
                return
            print("without the last entries:", *(each.describe() for each in late))
        self._broken(f"entries do not flow again: {[each.describe() for each in late]}")

    def _wait_for_results(self, attempt: int) -> None:
        last = self._last(attempt, self._named.log, self._named)
        if not self._named.wait_for(self._servers.primary, last, CATCH_UP):
            self._broken("the named consumer has not worked on the last entries")

    @staticmethod
    def _last(attempt: int, name: str, consumer: Consumer | NamedConsumer) -> str:
        channels = consumer.channels or CHANNELS
        return f"last/{attempt}/{name}/{[each for each in CHANNELS if each in channels][-1]}"

    def _close(self, consuming: Sequence[gevent.Greenlet[..., Any]]) -> None:
        self._stop()
        self._writers.close()
        self._named.close()
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
        written = [*self._writers.said(), *self._own.said]
        found = [*self.broken, *table_violations(generations, written), *self._judge_results(generations)]
        for number, name in enumerate(LOGS):
            tables = [tables[number] for tables in generations]
            for table in tables:
                found += order_violations(table, written)
            for consumer in self.consumers[name]:
                for stream in consumer.streams:
                    found += stream_violations(stream, tables)
                found += start_violations(consumer.streams, tables[-1], written)
        return found

    def _judge_results(self, generations: Sequence[Sequence[Table]]) -> Iterator[Violation]:
        """Check the results before each loss of entries, which goes for log and results, and at the end."""
        log, channels = NAMED
        results = [*self._servers.results, self._servers.read_results()]
        undone = self._named.undone()
        for number, (these, tables) in enumerate(zip(results, generations, strict=True), 1):
            complete = number == len(results)
            table = tables[LOGS.index(log)]
            yield from result_violations(log, channels, these, undone, table, complete=complete)
        for text in self._named.failures():
            yield Violation("call", f"a named consumer failed: {text}")
        self._worked = self._named.describe(results[-1])

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
            f"{' and '.join(map(str, self._entries))} entries, {self._own.trimmed} trimmed, "
            f"{len(self._servers.generations)} times some lost by a failover; "
            f"{len(self._everyone)} readers, {sum(each.resumed for each in self._everyone)} times resumed, "
            f"got {items - gaps} and {gaps} None; {self._worked}"
        )
