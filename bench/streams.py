"""Event streams on one gunicorn gevent worker: latency, CPU and memory of the worker, and how it stops.

    python bench/streams.py [--streams 2000] [--rounds 20] [--backend psycopg2]

Starts a private PostgreSQL, and gunicorn with one worker (``pip install 'pglisten[demo,psycopg2]' psutil
gunicorn``). "one for all" is `pglisten.sse.app` over one connection. "one each" opens a psycopg2 connection
per stream, with as many streams as the server's max_connections allows. Latency is from before NOTIFY to
the byte at each client. This process reads with epoll, on the other core if there is one. CPU is the
worker's, for each notification at each client. Then the worker is asked to stop while ``--stopped`` streams
are open.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

import pglisten
from pglisten.testing.postgres.processes import free_port
from pglisten.testing.postgres.server import PrivatePostgres

HERE = Path(__file__).parent
REQUEST = b"GET /?channel=bench HTTP/1.1\r\nHost: localhost\r\n\r\n"
HOOKS = "from pglisten.gunicorn import post_fork, post_worker_init, worker_exit\n"
TIMEOUT = 60.0


class Clients:
    """Open streams, read with epoll."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.tails: dict[int, bytes] = {}

    def open(self, count: int) -> int:
        """Open *count* streams, or up to the first refusal; return how many have got an answer."""
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT)
            client.sendall(REQUEST)
            head = b""
            while b"\n\n" not in head.partition(b"\r\n\r\n")[2]:
                piece = client.recv(4096)
                head += piece
                if not piece or not head.startswith(b"HTTP/1.1 200"):
                    client.close()
                    return len(self.sockets)
            client.setblocking(False)
            self.sockets[client.fileno()] = client
            self._epoll.register(client.fileno(), select.EPOLLIN)
        return len(self.sockets)

    def until_all(self, mark: bytes) -> list[float]:
        """Return the time when *mark* has arrived, for each client."""
        moments: dict[int, float] = {}
        deadline = time.monotonic() + TIMEOUT
        while len(moments) < len(self.sockets) and time.monotonic() < deadline:
            for number, _ in self._epoll.poll(1.0):
                if mark in self.sockets[number].recv(65536):
                    moments[number] = time.perf_counter()
        assert len(moments) == len(self.sockets), "a client has waited in vain"
        return list(moments.values())

    def until_ended(self) -> tuple[int, int]:
        """Wait until each has ended; return how many ended with the last chunk, and how many without."""
        clean = broken = 0
        tails: dict[int, bytes] = {}
        while clean + broken < len(self.sockets):
            for number, _ in self._epoll.poll(1.0):
                try:
                    piece = self.sockets[number].recv(65536)
                except ConnectionResetError:
                    piece = b""
                    tails[number] = b""
                if piece:
                    tails[number] = (tails.get(number, b"") + piece)[-16:]
                    continue
                self._epoll.unregister(number)
                if tails.get(number, b"").endswith(b"0\r\n\r\n"):
                    clean += 1
                else:
                    broken += 1
        return clean, broken

    def close(self) -> None:
        self._epoll.close()
        for client in self.sockets.values():
            client.close()


class Worker(NamedTuple):
    """gunicorn with one worker."""

    master: subprocess.Popen[bytes]
    process: psutil.Process
    port: int


@contextmanager
def gunicorn(application: str, dsn: str, backend: str, folder: Path) -> Generator[Worker, None, None]:
    """Run *application* on one gevent worker."""
    port = free_port()
    (folder / "gunicorn.conf.py").write_text(HOOKS)
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "1", "--worker-connections", "10000"]
    command += ["-c", str(folder / "gunicorn.conf.py"), "-b", f"127.0.0.1:{port}", "--chdir", str(HERE)]
    master = subprocess.Popen(
        [*command, "--backlog", "4096", "--log-level", "error", f"stream_apps:{application}"],
        env=os.environ | {"BENCH_DSN": dsn, "BENCH_BACKEND": backend},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + TIMEOUT
        while True:
            assert time.monotonic() < deadline, "gunicorn does not start"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                workers = psutil.Process(master.pid).children()
                if workers:
                    break
            except OSError:
                time.sleep(0.05)
        yield Worker(master, workers[0], port)
    finally:
        master.terminate()
        master.wait()


def measure(name: str, worker: Worker, dsn: str, streams: int, rounds: int) -> None:
    """Print one line of figures."""
    clients = Clients(worker.port)
    empty = worker.process.memory_info().rss
    # First, because the streams may use all connections.
    with pglisten.ListenerConnection(dsn) as sender:
        count = clients.open(streams)
        rows = sessions(sender)
        latencies: list[float] = []
        cpu = sum(worker.process.cpu_times()[:2])
        for number in range(rounds):
            started = time.perf_counter()
            sender.notify("bench", f"<{number}>")
            latencies += [moment - started for moment in clients.until_all(f"<{number}>".encode())]
        cpu = sum(worker.process.cpu_times()[:2]) - cpu
    ordered = sorted(latencies)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    rss = worker.process.memory_info().rss
    print(
        f"{name:24}{count:8}{rows:10}{p50 * 1e3:9.1f}{p99 * 1e3:9.1f}"
        f"{cpu / len(ordered) * 1e6:10.1f}{rss / 2**20:9.0f}{(rss - empty) / max(1, count) / 1024:9.1f}"
    )
    clients.close()


def sessions(sender: pglisten.ListenerConnection) -> int:
    """Return how many sessions listen at the server."""
    sender.listen("count")
    sender.execute(
        "SELECT pg_notify('count', count(*)::text) FROM pg_stat_activity "
        "WHERE query ILIKE 'listen%' AND pid <> pg_backend_pid()"
    )
    return int(sender.get(TIMEOUT).payload)


def stop(worker: Worker, streams: int) -> None:
    """Print how long it takes to stop with streams open."""
    clients = Clients(worker.port)
    count = clients.open(streams)
    started = time.perf_counter()
    worker.master.send_signal(signal.SIGTERM)
    clean, broken = clients.until_ended()
    ended = time.perf_counter() - started
    worker.master.wait()
    print(
        f"asked to stop with {count} streams: {clean} ended cleanly and {broken} not within {ended:.2f} s, "
        f"gunicorn has ended after {time.perf_counter() - started:.2f} s (graceful_timeout is 30)"
    )
    clients.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--stopped", type=int, default=500)
    parser.add_argument("--backend", default=None)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    backends = [options.backend] if options.backend else pglisten.available_backends()
    with PrivatePostgres() as postgres, temporary() as folder:
        print(
            f"{'':24}{'streams':>8}{'sessions':>10}{'p50 ms':>9}{'p99 ms':>9}"
            f"{'CPU us':>10}{'RSS MB':>9}{'kB each':>9}"
        )
        for backend in backends:
            with gunicorn("one_for_all", postgres.dsn(), backend, folder) as worker:
                measure(f"one for all, {backend}", worker, postgres.dsn(), options.streams, options.rounds)
            with gunicorn("one_for_all", postgres.dsn(), backend, folder) as worker:
                measure(f"one for all, {backend}", worker, postgres.dsn(), 90, options.rounds)
        if "psycopg2" in pglisten.available_backends():
            with gunicorn("one_each", postgres.dsn(), "psycopg2", folder) as worker:
                measure("one each", worker, postgres.dsn(), options.streams, options.rounds)
        for backend in backends:
            with gunicorn("one_for_all", postgres.dsn(), backend, folder) as worker:
                stop(worker, options.stopped)


@contextmanager
def temporary() -> Generator[Path, None, None]:
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


if __name__ == "__main__":
    main()
