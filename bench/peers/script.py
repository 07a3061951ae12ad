"""The command line and the output that all peers share.

    python -m bench.peers.NAME TASK URI [--count N] ...

A peer reports on stdout, one JSON object per line, that it is ready, then what the task measures. It measures
itself with the clocks of the machine and of its own process; the process that started it only waits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

CHANNEL = "bench"

LONG = 3600.0
"""Seconds after which the process that started a peer has ended it."""


def main(**tasks: Callable[[argparse.Namespace], None]) -> None:
    """Run the task on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=tasks)
    parser.add_argument("uri")
    parser.add_argument("--count", type=int, default=1, help="notifications, losses or channels")
    parser.add_argument("--style", default="each", help="count, each, or take: see docs/benchmarks.md")
    parser.add_argument("--backend", default=None)
    parser.add_argument("--mute", action="store_true", help="no heartbeat")
    parser.add_argument("--busy", type=int, default=0, help="other greenlets, which work as well")
    parser.add_argument("--ticker", action="store_true", help="measure how late the hub is")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long to write")
    parser.add_argument("--redis", type=int, help="the port of the Redis server")
    options = parser.parse_args()
    tasks[options.task](options)


def say(**fields: object) -> None:
    """Print one line of output."""
    print(json.dumps(fields), flush=True)


class Burst:
    """The wall and CPU time of this process since the first notification."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def done(self, consumed: int, last: str | None) -> None:
        """Report the time for *consumed* notifications; *last* is the last payload, with its number."""
        seconds, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        if last is not None and last.split()[0] != str(consumed - 1):
            raise SystemExit(
                f"the last of {consumed} should not be {last[:20]!r}: lost, repeated or out of order"
            )
        say(seconds=seconds, cpu=cpu, consumed=consumed)


def arrived(payload: str) -> None:
    """Report the age of a notification, whose payload is its time in ns of the machine's clock."""
    say(latency=(time.time_ns() - int(payload)) / 1e9)


def channels_of(options: argparse.Namespace) -> list[str]:
    """Return as many names of channels as the command line asks for."""
    return [f"channel_{number}" for number in range(options.count)]


def resident() -> int:
    """Return the bytes of memory that this process has in use (proc(5), VmRSS)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
