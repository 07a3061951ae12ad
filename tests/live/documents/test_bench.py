"""The benchmarks run and write their results. No test judges the figures."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.fixtures.environment import BACKENDS, leave_out

pytestmark = [pytest.mark.slow, pytest.mark.programs]

ROOT = Path(__file__).parents[3]

LIMITS = {"memory": 5e6}
"""Implausible results for a thousand channels, in bytes. All other metrics are seconds: 30 is implausible."""

WAITS = 50


def _bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_benchmark_measures_pglisten_and_writes_every_round(tmp_path: Path) -> None:
    done = _bench("--quick", "--only", "burst", "--rounds", "2", "--count", "2000", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "burst.json").read_text())
    assert len(written["rounds"]) == 2
    for runs in written["rounds"]:
        for backend in BACKENDS:
            figures = runs[f"pglisten, {backend}"]
            assert figures["rate"] > 0
            assert 0 < figures["cpu"] < 1
    judged = json.loads((tmp_path / "targets.json").read_text())
    assert {f"pglisten, {backend}" for backend in BACKENDS} <= {
        re.split(": | / ", each["target"])[1] for each in judged
    }
    for backend in BACKENDS:
        assert f"| pglisten, {backend} " in done.stdout


@pytest.mark.timeout(120)
def test_the_others_measure_something_of_everything(tmp_path: Path) -> None:
    names = ("latency", "reconnect", "channels", "stalls")
    chosen = [word for name in names for word in ("--only", name)]
    done = _bench("--quick", *chosen, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    for name in names:
        (runs,) = json.loads((tmp_path / f"{name}.json").read_text())["rounds"]
        for backend in BACKENDS:
            figures = runs[f"pglisten, {backend}"]
            assert figures
            assert all(0 < figure < LIMITS.get(metric, 30) for metric, figure in figures.items()), figures


@pytest.mark.timeout(120)
def test_a_group_measures_all_of_event_logs(tmp_path: Path) -> None:
    done = _bench("--quick", "--only", "eventlog", "--count", "2000", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    runs = {
        name: json.loads((tmp_path / f"eventlog.{name}.json").read_text())["rounds"][0]
        for name in ("append", "latency", "catchup", "resume")
    }
    assert runs["append"]["pglisten event log"]["lost"] == 0
    assert all(each["paused"] > 0 and each["plain"] > 0 for each in runs["append"].values())
    for backend in BACKENDS:
        figures = {name: runs[name][f"follower, {backend}"] for name in ("latency", "catchup", "resume")}
        assert figures["resume"]["asked"] == 0
        assert figures["catchup"]["rate"] > 0
        assert 0 < figures["latency"]["p50"] < 30


@pytest.mark.timeout(120)
def test_event_streams_and_emits_are_measured_beside_those_of_redis(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None:
        leave_out("redis", "redis-server is not installed")
    done = _bench("--quick", "--only", "streams.100", "--only", "socketio", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (runs,) = json.loads((tmp_path / "streams.100.json").read_text())["rounds"]
    for label in ("gevent alone", "flask-sse, Redis", *(f"pglisten.sse, {backend}" for backend in BACKENDS)):
        figures = runs[label]
        assert 0 < figures["p50"] <= figures["p99"] < 30
        assert figures["rate"] > 0
        assert 0 < figures["cpu"] < 1
    (runs,) = json.loads((tmp_path / "socketio.json").read_text())["rounds"]
    for label in ("RedisManager", *(f"PgManager, {backend}" for backend in BACKENDS)):
        figures = runs[label]
        assert all(figures[name] > 0 for name in ("one", "many", "large", "cpu"))
        assert 0 < figures["p50"] < 30


def test_notify_costs_the_sessions_that_listen_even_to_something_else(tmp_path: Path) -> None:
    done = _bench("--quick", "--only", "scale.10", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (runs,) = json.loads((tmp_path / "scale.10.json").read_text())["rounds"]
    plain = runs["INSERT"]
    for label in ("the same, and NOTIFY elsewhere", "the same, and NOTIFY to all"):
        assert all(runs[label][f"writers_{count}"] > 0 for count in (1, 8, 64))
        assert runs[label]["cpu"] > 10 * plain["cpu"]
    assert 0 < runs["the same, and NOTIFY to all"]["p50"] < 30


def test_idle_listeners_wake_up_for_nothing(tmp_path: Path) -> None:
    done = _bench("--quick", "--only", "idle", "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (runs,) = json.loads((tmp_path / "idle.json").read_text())["rounds"]
    for backend in BACKENDS:
        figures = runs[f"pglisten, {backend}, no heartbeat"]
        assert figures["waits"] == 0
        assert figures["cpu"] < 0.01


def test_every_wait_of_a_process_counts_as_a_wake_up() -> None:
    script = f"""
import os, time
from bench.idle import used
_, before = used(os.getpid())
for _ in range({WAITS}):
    time.sleep(0.001)
print(used(os.getpid())[1] - before)
"""
    counted = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True, timeout=60)
    assert WAITS <= int(counted) < 2 * WAITS


def test_a_session_that_still_ends_is_not_taken_for_the_listeners() -> None:
    script = """
import select
from bench import losses, server
from bench.benchmark import QUICK, Stage

AGED = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND backend_start < clock_timestamp() - %s::interval"

with server.running() as running:
    look = running.query
    ending = running.connect()
    while not look(AGED, ending.info.backend_pid, losses.AGE):
        pass
    listener = running.connect()

    def end_it_after_the_first_look(sql, *values):
        rows = look(sql, *values)
        ending.close()
        return rows

    running.query = end_it_after_the_first_look
    losses.lose(Stage(running, None, QUICK))
    print(select.select([listener], [], [], 10)[0] == [listener])  # only its end comes over it
"""
    lost = subprocess.check_output([sys.executable, "-c", script], cwd=ROOT, text=True, timeout=60)
    assert lost == "True\n"


def test_an_unknown_benchmark_is_refused_with_the_names_of_those_there_are() -> None:
    done = _bench("--only", "brust")
    assert done.returncode == 2
    assert "brust" in done.stderr
    assert "burst, " in done.stderr
