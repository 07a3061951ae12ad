"""Event streams of one worker: how soon events are at all clients, how many a second, CPU and memory.

They are compared with the least that gevent can do, a queue and ``sendall`` for each client, and with
flask-sse and Redis. The clients are read with epoll in this process, on the other core if there is one.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from bench.benchmark import FULL, Benchmark, Stage, one_by_one
from bench.cases import Case
from bench.idle import used
from bench.peers.script import CHANNEL
from bench.process import PeerFailed
from bench.results import Metric, Run
from bench.stream_clients import Clients
from pglisten.testing.postgres.processes import free_port

SIZES = (100, 1000, 5000)
SENT_ALONE = 20_000
"""Events that are sent alone, times the streams; at least 20 in a full run."""

BURST = 100
"""Events that are sent at once. An application of pglisten keeps 256 for each client."""


class RedisCase(Case):
    def missing(self, go: Any) -> str:
        return super().missing(go) or ("" if shutil.which("redis-server") else "redis-server")


def _case(label: str, style: str, needs: str, kind: type[Case] = Case) -> Case:
    return kind(label, "event_streams", needs, ("--style", style))


ALONE = _case("gevent alone", "alone", "psycopg2")
EACH = _case("a connection for each", "each", "psycopg2")
FLASK_SSE = _case("flask-sse, Redis", "flask-sse", "flask_sse", RedisCase)
OURS = tuple(
    Case(
        f"pglisten.sse, {backend}",
        "event_streams",
        backend,
        ("--style", "pglisten", "--backend", backend),
    )
    for backend in ("psycopg2", "psycopg", "pg8000")
)

Send = Callable[[int, int], None]
"""Sends events with all numbers from the first up to, and not with, the second."""


@contextmanager
def running_redis() -> Iterator[tuple[int, Send, Callable[[], int]]]:
    """Run a Redis; return its port, how to send, and how to ask for the number of subscribers."""
    import redis  # noqa: PLC0415 - only this case needs it

    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", folder, "--save", ""]
        server = subprocess.Popen([*command, "--maxclients", "10000"], stdout=subprocess.DEVNULL)
        try:
            client = redis.Redis(port=port)
            deadline = time.monotonic() + 30
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    if time.monotonic() > deadline or server.poll() is not None:
                        raise PeerFailed("redis-server does not answer") from None

            def send(first: int, last: int) -> None:
                with client.pipeline(transaction=False) as pipeline:
                    for number in range(first, last):
                        pipeline.publish(CHANNEL, json.dumps({"data": f"<{number}>"}))
                    pipeline.execute()

            yield port, send, lambda: client.pubsub_numsub(CHANNEL)[0][1]
        finally:
            server.kill()
            server.wait()


@contextmanager
def _postgres(stage: Stage) -> Iterator[Send]:
    with closing(stage.server.connect()) as connection, connection.cursor() as cursor:

        def send(first: int, last: int) -> None:
            cursor.execute(
                "SELECT pg_notify(%s, '<' || i || '>') FROM generate_series(%s, %s - 1) AS i",
                (CHANNEL, first, last),
            )

        yield send


@contextmanager
def _serving(stage: Stage, case: Case, redis: int | None = None) -> Iterator[tuple[int, int]]:
    """Run the server of *case*; return the id of its worker, and its port."""
    with stage.start(case, "serve", redis=redis) as peer:
        said = peer.expect("pid", "port")
        try:
            yield said["pid"], said["port"]
        finally:
            os.kill(said["pid"], signal.SIGKILL)


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def measure(stage: Stage, case: Case, count: int) -> Run:
    """Send events to *count* streams, first one at a time, then many at once."""
    share = stage.scale.latency / FULL.latency
    alone, burst = int(max(20, SENT_ALONE / count) * share), int(BURST * share)
    with ExitStack() as stack:
        if case is FLASK_SSE:
            redis, send, subscribers = stack.enter_context(running_redis())
            pid, port = stack.enter_context(_serving(stage, case, redis))
        else:
            send = stack.enter_context(_postgres(stage))
            pid, port = stack.enter_context(_serving(stage, case))
        clients = stack.enter_context(closing(Clients(port, answers_at_once=case is not FLASK_SSE)))
        before = _resident(pid)
        clients.open(count)
        if case is FLASK_SSE:
            clients.until(lambda: subscribers() == count)
        each = (_resident(pid) - before) / count
        send(0, 1)
        clients.until_all("<0>")

        cpu, ages = used(pid)[0], []
        for number in range(1, alone + 1):
            began = time.perf_counter()
            send(number, number + 1)
            ages += [moment - began for moment in clients.until_all(f"<{number}>")]
        cpu = used(pid)[0] - cpu
        burst_cpu, began = used(pid)[0], time.perf_counter()
        send(alone + 1, alone + 1 + burst)
        seconds = max(clients.until_all(f"<{alone + burst}>")) - began
        burst_cpu = used(pid)[0] - burst_cpu
    ages.sort()
    return {
        "p50": statistics.median(ages),
        "p99": ages[int(len(ages) * 0.99)],
        "cpu": cpu / len(ages),
        "rate": burst * count / seconds,
        "burst_cpu": burst_cpu / (burst * count),
        "memory": each,
    }


def _benchmark(count: int) -> Benchmark:
    return Benchmark(
        f"streams.{count}",
        f"{count:,} event streams of one worker",
        # A server takes a hundred connections by default.
        (ALONE, *OURS, *([EACH] if count <= 100 else []), FLASK_SSE),
        (
            Metric("p50", "p50, ms", 1e3, 1),
            Metric("p99", "p99, ms", 1e3, 1),
            Metric("cpu", "CPU, µs", 1e6, 1),
            Metric("rate", "in a burst, thousands a second", 1e-3),
            Metric("burst_cpu", "its CPU, µs", 1e6, 1),
            Metric("memory", "kB each", 1 / 1024, 1),
        ),
        one_by_one(lambda stage, case: measure(stage, case, count)),
        ALONE,
    )


BENCHMARKS = tuple(map(_benchmark, SIZES))
