"""The cost of a hundred idle listeners: CPU, and how often their process wakes up.

The kernel counts both for all threads of the process (proc(5): schedstat, and voluntary context switches,
each of which begins a wait after another has ended). Counting begins when all listeners are connected.
"idle" is without heartbeats; "heartbeat" is with the default interval, in which each listener has one
heartbeat per full run.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.benchmark import Benchmark, Stage, one_by_one
from bench.cases import LIB_PQ, MUTE_2, MUTE_3, MUTE_8, OURS_2, OURS_3, OURS_8, Case
from bench.results import Metric, Run

LISTENERS = 100
SETTLED = 1.0
"""Seconds until the work that follows the start has ended."""

PERIOD = 3
"""Factor of the duration with heartbeats: a full run then lasts one default interval."""


def used(pid: int) -> tuple[float, int]:
    """Return the seconds of CPU that a process has used, and how often it has begun to wait."""
    cpu = waits = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((thread / "schedstat").read_text().split()[0])
        status = (thread / "status").read_text()
        waits += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return cpu / 1e9, waits


def _idle(stage: Stage, case: Case, seconds: float) -> Run:
    with stage.start(case, "idle", count=LISTENERS) as peer:
        peer.expect("ready")
        time.sleep(SETTLED)
        cpu, waits = used(peer.pid)
        time.sleep(seconds)
        cpu_after, waits_after = used(peer.pid)
    return {"cpu": (cpu_after - cpu) / seconds, "waits": (waits_after - waits) / seconds}


def _benchmark(name: str, title: str, cases: tuple[Case, ...], reference: Case, times: int) -> Benchmark:
    def measure(stage: Stage, case: Case) -> Run:
        return _idle(stage, case, times * stage.scale.idle)

    metrics = (Metric("cpu", "% of a core", 100, 3), Metric("waits", "wake-ups a second", 1, 2))
    return Benchmark(
        name,
        f"{LISTENERS} listeners to whom nothing comes{title}",
        cases,
        metrics,
        one_by_one(measure),
        reference,
    )


BENCHMARKS = (
    _benchmark("idle", "", (LIB_PQ, MUTE_2, MUTE_3, MUTE_8), LIB_PQ, 1),
    _benchmark("heartbeat", ", with heartbeats", (OURS_2, OURS_3, OURS_8), OURS_2, PERIOD),
)
