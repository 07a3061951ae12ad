"""Measure pglisten beside other ways to receive notifications.

    python -m bench [--quick] [--only NAME] [--rounds N] [--count N] [--output FOLDER]

Starts a private PostgreSQL, and each installed peer in a process of its own. The cases of a benchmark take
turns, so that other load on the machine affects all of them equally. docs/benchmarks.md explains what is
measured and how to read it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path

from bench import (
    burst,
    eventlog,
    golang,
    idle,
    latency,
    losses,
    machine,
    scale,
    server,
    socketio,
    stalls,
    streams,
    table,
    targets,
)
from bench.benchmark import FULL, QUICK, Benchmark, Scale, Stage
from bench.results import Results

BENCHMARKS = (
    *burst.BENCHMARKS, *latency.BENCHMARKS, *losses.BENCHMARKS, *stalls.BENCHMARKS, *idle.BENCHMARKS,
    *eventlog.BENCHMARKS, *streams.BENCHMARKS, *socketio.BENCHMARKS, *scale.BENCHMARKS,
)  # fmt: skip


def options() -> argparse.Namespace:
    names = ", ".join(benchmark.name for benchmark in BENCHMARKS)
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=(__doc__ or "").partition("\n")[0], epilog=f"Benchmarks: {names}."
    )
    parser.add_argument("--quick", action="store_true", help="a minute's run: to see that it works")
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="a benchmark, a group like 'eventlog', or a pattern like 'burst*'; may be repeated",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each case runs")
    parser.add_argument("--count", type=int, metavar="N", help="notifications in a burst")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), metavar="FOLDER")
    chosen = parser.parse_args()
    chosen.benchmarks = [
        benchmark
        for benchmark in BENCHMARKS
        if not chosen.only or any(_matches(benchmark.name, each) for each in chosen.only)
    ]
    if not chosen.benchmarks:
        parser.error(f"no benchmark is called {' or '.join(chosen.only)}: there are {names}")
    return chosen


def _matches(name: str, pattern: str) -> bool:
    """Whether *pattern* names a benchmark, or the group before the dot."""
    return fnmatch(name, pattern) or name.partition(".")[0] == pattern


def size(chosen: argparse.Namespace) -> Scale:
    made = QUICK if chosen.quick else FULL
    if chosen.rounds:
        made = replace(made, rounds=chosen.rounds)
    if chosen.count:
        made = replace(made, burst=chosen.count)
    return made


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def report(benchmark: Benchmark, results: Results, where: dict[str, str], folder: Path) -> str:
    """Write the figures and the picture of one benchmark; return its table."""
    figures = {"benchmark": benchmark.name, "title": benchmark.title, "versions": where, **asdict(results)}
    (folder / f"{benchmark.name}.json").write_text(json.dumps(figures, indent=1))
    try:
        from bench.plot import plot  # noqa: PLC0415 - the only one to need matplotlib
    except ImportError:
        progress("no pictures: matplotlib is not installed")
    else:
        plot(benchmark, results, folder / f"{benchmark.name}.svg")
    text = f"{benchmark.name}: {benchmark.title}\n\n{table.benchmark_table(benchmark, results)}\n"
    return text + "".join(f"\nskipped: {label} ({reason})" for label, reason in results.skipped.items())


def main() -> int:
    chosen = options()
    chosen.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, Results] = {}
    with tempfile.TemporaryDirectory() as folder, server.running() as running:
        go = golang.build(Path(folder))
        where = machine.description(running.version)
        print(", ".join(f"{name} {version}" for name, version in where.items()), end="\n\n")
        for benchmark in chosen.benchmarks:
            results[benchmark.name] = benchmark.run(Stage(running, go, size(chosen)), progress)
            print("\n" + report(benchmark, results[benchmark.name], where, chosen.output), flush=True)
    judged = targets.judged(results)
    (chosen.output / "targets.json").write_text(json.dumps(judged, indent=1))
    print("\n" + table.target_table(judged))
    failed = [reason for each in results.values() for reason in each.skipped.values() if "failed" in reason]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
