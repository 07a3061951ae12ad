"""gunicorn's gevent workers, each with its own listener: the main use of this library."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.fixtures.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]

APPLICATIONS = Path(__file__).parents[1] / "applications"


class Gunicorn:
    """A gunicorn with two gevent workers on a loopback port of its own."""

    def __init__(self, variables: dict[str, str], *options: str) -> None:
        # gunicorn gets the socket itself, so that no other process can take its port.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        options = (*options, "--graceful-timeout", "5", "--worker-tmp-dir", "/dev/shm", "--no-control-socket")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2", *options),
                *("--bind", f"fd://{self._socket.fileno()}", "--chdir", str(APPLICATIONS)),
                *("-c", str(APPLICATIONS / "gunicorn.conf.py"), "seen:application"),
            ],
            pass_fds=[self._socket.fileno()],
            env=variables,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, path: str = "/") -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            return answer
        finally:
            connection.close()

    def workers(
        self, condition: Callable[[dict[str, Any]], bool], *, except_pid: int | None = None
    ) -> dict[int, Any]:
        """Ask until two workers other than *except_pid* have answered as *condition* demands."""
        good: dict[int, Any] = {}
        deadline = time.monotonic() + 60
        while len(good) < 2:
            assert time.monotonic() < deadline, f"only {good}"
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                answer = self.ask("/ready")
                if condition(answer) and answer["pid"] != except_pid:
                    good[answer["pid"]] = answer
        return good

    def stop(self) -> str:
        self._socket.close()
        self.process.terminate()
        try:
            _, log = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        assert self.process.returncode == 0, log
        return log


@pytest.fixture(params=["plain", "preload", "preload-connected"])
def gunicorn(server: Server, backend_name: str, request: pytest.FixtureRequest) -> Iterator[Gunicorn]:
    """Start gunicorn in three ways: plain; preloaded; preloaded in a master that connects before it forks."""
    connected = {"SEEN_AT_IMPORT": "yes"} if request.param == "preload-connected" else {}
    options = ["--preload"] if request.param.startswith("preload") else []
    made = Gunicorn(server.variables(PGLISTEN_BACKEND=backend_name, **connected), *options)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.stop()


def test_each_worker_listens_on_its_own_and_a_replaced_one_goes_on(
    gunicorn: Gunicorn, server: Server, backend_name: str
) -> None:
    workers = gunicorn.workers(lambda answer: answer["channels"] == ["orders"] and answer["connected"])
    assert {worker["backend"] for worker in workers.values()} == {backend_name}
    assert len({worker["server_pid"] for worker in workers.values()}) == 2

    server.notify("orders", "first")
    gunicorn.workers(lambda answer: answer["seen"][-1:] == ["first"])

    victim = min(workers)
    os.kill(victim, signal.SIGKILL)
    gunicorn.workers(
        lambda answer: answer["channels"] == ["orders"] and answer["connected"], except_pid=victim
    )
    server.notify("orders", "second")
    after = gunicorn.workers(lambda answer: answer["seen"][-1:] == ["second"])
    assert victim not in after
    survivor = (set(workers) - {victim}).pop()
    assert [payload for payload in after[survivor]["seen"] if payload] == ["first", "second"]

    for worker in after.values():
        server.terminate(worker["server_pid"])
    gunicorn.workers(lambda answer: answer["connected"] and answer["seen"][-1:] == [None])
    server.notify("orders", "third")
    gunicorn.workers(lambda answer: answer["seen"][-2:] == [None, "third"])

    log = gunicorn.stop()
    assert "Traceback" not in log, log


def test_a_reload_makes_new_workers_listen_and_leaves_no_session_of_the_old(
    gunicorn: Gunicorn, server: Server, request: pytest.FixtureRequest
) -> None:
    masters = int("preload-connected" in request.node.callspec.id)
    old = gunicorn.workers(lambda answer: answer["connected"] and answer["channels"] == ["orders"])
    gunicorn.process.send_signal(signal.SIGHUP)
    new = gunicorn.workers(lambda answer: answer["connected"] and answer["pid"] not in old)
    _wait_for_sessions(server, 2 + masters)
    server.notify("orders", "after the reload")
    after = gunicorn.workers(lambda answer: answer["seen"][-1:] == ["after the reload"])
    assert set(after) == set(new)
    log = gunicorn.stop()
    assert "Traceback" not in log, log


def _wait_for_sessions(server: Server, count: int) -> None:
    """Wait until the old workers, which may answer a little longer, have ended."""
    deadline = time.monotonic() + 20
    while server.sessions() != count:
        assert time.monotonic() < deadline, server.pids()
        time.sleep(0.02)
