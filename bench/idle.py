"""What a hundred listeners cost to whom nothing comes: CPU, and how often their process wakes up.

Asked of the kernel, for all threads of the process (proc(5): schedstat, and voluntary context switches: each
is a wait that began, and so one that had ended). It begins when all are connected, and ends long before the
first heartbeat is due.
"""

from __future__ import annotations

import time
from pathlib import Path

from bench.benchmark import Benchmark, Stage
from bench.cases import LIB_PQ, OURS_2, OURS_8, Case
from bench.results import Metric, Run

LISTENERS = 100
SETTLED = 1.0
"""Seconds until what the start has left behind is done."""


def _used(pid: int) -> tuple[float, int]:
    """Return the seconds of CPU that a process has used, and how often it began to wait."""
    cpu = waits = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        cpu += int((thread / "schedstat").read_text().split()[0])
        status = (thread / "status").read_text()
        waits += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return cpu / 1e9, waits


def _idle(stage: Stage, case: Case) -> Run:
    with stage.start(case, "idle", count=LISTENERS) as peer:
        peer.expect("ready")
        time.sleep(SETTLED)
        cpu, waits = _used(peer.pid)
        time.sleep(stage.scale.idle)
        cpu_after, waits_after = _used(peer.pid)
    return {"cpu": (cpu_after - cpu) / stage.scale.idle, "waits": (waits_after - waits) / stage.scale.idle}


BENCHMARKS = (
    Benchmark(
        "idle",
        f"{LISTENERS} listeners to whom nothing comes",
        (LIB_PQ, OURS_2, OURS_8),
        (Metric("cpu", "% of a core", 100, 3), Metric("waits", "wake-ups a second", 1, 2)),
        _idle,
        LIB_PQ,
    ),
)
