"""gunicorn on a loopback port of its own, with the applications that lie beside the live tests."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeAlias

import gevent
import gevent.subprocess
import psutil
import pytest
from gevent import socket

from pglisten_event_source import EventSource
from pglisten_server import Server

APPLICATIONS = Path(__file__).parents[1] / "live" / "applications"
GRACEFUL_TIMEOUT = 30.0
"""gunicorn's default: what a worker waits for a request in flight, and so for a stream that does not end."""


PROMPTLY = 5.0
"""Seconds in which a stopped worker is gone, where it would take that long with a stream open."""


class Gunicorn:
    """A running gunicorn; the test's own greenlets go on meanwhile."""

    def __init__(self, log: Path, variables: dict[str, str], *options: str) -> None:
        # gunicorn gets the socket itself: its port can be nobody else's.
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.port: int = listening.getsockname()[1]
            self._log = log
            self.sources: list[EventSource] = []
            with log.open("w") as stderr:
                self.process = gevent.subprocess.Popen(
                    [
                        *(sys.executable, "-m", "gunicorn", "--bind", f"fd://{listening.fileno()}", *options),
                        *("--graceful-timeout", str(int(GRACEFUL_TIMEOUT)), "--worker-tmp-dir", "/dev/shm"),
                        *(
                            "--no-control-socket",
                            "--chdir",
                            str(APPLICATIONS),
                            "-c",
                            str(APPLICATIONS / "streams.conf.py"),
                        ),
                        "streams:application",
                    ],
                    pass_fds=[listening.fileno()],
                    env=variables,
                    stderr=stderr,
                )
        self.master = psutil.Process(self.process.pid)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def workers(self) -> list[psutil.Process]:
        """The worker processes, the oldest first."""
        return sorted(self.master.children(), key=lambda process: process.pid)

    def open(self, target: str, **headers: str) -> EventSource:
        """Open a stream; it has begun when this returns."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.sources.append(source := EventSource(self.port, target, named))
        source.wait_open()
        return source

    def get(self, target: str) -> Any:
        """Return what a request is answered with."""
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.settimeout(GRACEFUL_TIMEOUT)
            connection.sendall(f"GET {target} HTTP/1.0\r\nHost: test\r\n\r\n".encode())
            with connection.makefile("rb") as file:
                head, _, body = file.read().partition(b"\r\n\r\n")
        if b" 200 OK\r\n" not in head:
            raise HTTPException(head)
        return json.loads(body)

    def wait(self, condition: Callable[[], object], timeout: float = 20) -> None:
        """Wait until *condition* holds: what other processes are about has no event to wait for."""
        try:
            with gevent.Timeout(timeout, TimeoutError):
                while not condition():
                    gevent.sleep(0.01)
        except TimeoutError:
            raise TimeoutError(f"it never came to that: {self.log}") from None

    def wait_gone(self, *processes: psutil.Process, timeout: float = 20) -> None:
        """Wait until these processes are gone."""

        def gone(process: psutil.Process) -> bool:
            # Nobody may be there to bury an orphan.
            try:
                return bool(process.status() == psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:
                return True

        self.wait(lambda: all(map(gone, processes)), timeout)

    def close(self) -> None:
        """Kill all there is: a test that is about its end has waited for it."""
        for source in self.sources:
            source.close()
        if self.process.poll() is None:
            # Held, it makes no more of them.
            self.master.suspend()
            for process in [*self.master.children(recursive=True), self.master]:
                process.kill()
        self.process.wait()


StartGunicorn: TypeAlias = Callable[..., Gunicorn]


@pytest.fixture
def start_gunicorn(server: Server, backend_name: str, tmp_path: Path) -> Iterator[StartGunicorn]:
    """Return a function that starts gunicorn with some options and environment variables."""
    with contextlib.ExitStack() as stack:

        def start(*options: str, **variables: str) -> Gunicorn:
            made = Gunicorn(
                tmp_path / "gunicorn.log",
                server.variables(PGLISTEN_BACKEND=backend_name, **variables),
                *options,
            )
            stack.callback(made.close)
            made.wait(lambda: made.log.count("Booting worker"))
            return made

        yield start


@pytest.fixture
def gunicorn_mode(backend_name: str) -> list[str]:
    """Both of everything, in two combinations."""
    return ["-k", "gevent"] if backend_name == "psycopg2" else ["-k", "gevent_pywsgi", "--preload"]
