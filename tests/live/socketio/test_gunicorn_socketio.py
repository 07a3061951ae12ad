"""Flask-SocketIO under gunicorn: real clients on four workers, and a restart of the database under load."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.subprocess
import pytest

from pglisten import Broadcaster, EventLog
from pglisten.socketio import PgManager
from support.fixtures.gunicorn import Gunicorn
from support.servers.server import PrivateServer

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]

PROGRAM = Path(__file__).parents[2] / "support" / "programs" / "socketio_clients.py"
CLIENTS, COUNT = 12, 40


@pytest.fixture
def gunicorn(
    private_server: PrivateServer, backend_name: str, gunicorn_mode: list[str], tmp_path: Path
) -> Iterator[Gunicorn]:
    private_server.query(EventLog.sql("socketio"))
    made = Gunicorn(
        tmp_path / "gunicorn.log",
        private_server.variables(PGLISTEN_BACKEND=backend_name),
        *("-w", "4", *gunicorn_mode),
        application="flask_socketio_app:application",
    )
    try:
        made.wait(lambda: made.log.count("Booting worker") == 4)
        yield made
    finally:
        made.close()


class Clients:
    """The program of the clients."""

    def __init__(self, port: int) -> None:
        self._process = gevent.subprocess.Popen(
            [sys.executable, str(PROGRAM), str(port), str(CLIENTS), str(COUNT)],
            stdin=gevent.subprocess.PIPE,
            stdout=gevent.subprocess.PIPE,
        )

    def line(self) -> str:
        return str(self._process.stdout.readline().decode().rstrip())

    def go_on(self) -> None:
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


def test_no_emit_is_lost_or_comes_twice_when_the_database_restarts(
    gunicorn: Gunicorn, private_server: PrivateServer, backend_name: str
) -> None:
    clients = Clients(gunicorn.port)
    with Broadcaster(private_server.dsn(), backend=backend_name, min_reconnect_interval=0.1) as broadcaster:
        try:
            outside = PgManager(EventLog("socketio", broadcaster), write_only=True)
            assert len(json.loads(clients.line())) > 1
            outside.emit("blob", bytes(1_000_000))
            clients.go_on()
            assert clients.line() == "half"
            private_server.restart("immediate")
            outside.emit("blob", bytes(1_000_000))
            clients.go_on()
            heard = json.loads(clients.line())
        finally:
            clients.close()
    assert len(heard) == CLIENTS
    for said, answers, blobs in heard:
        check(said)
        assert blobs == [1_000_000] * 2
        assert len(answers) == 1
    assert "Traceback" not in gunicorn.log


def check(said: list[Any]) -> None:
    """Assert that all numbers of all clients are there once, and in order."""
    for number in range(CLIENTS):
        assert [each for name, each in said if name == f"c{number}"] == list(range(COUNT))
