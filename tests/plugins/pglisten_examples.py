"""The programs in examples/, as processes, each with a database of its own."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import gevent
import gevent.subprocess
import pytest

from pglisten.testing.postgres.processes import free_port
from pglisten_programs import LIMIT, Program
from pglisten_server import Server

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


class Database(Server):
    """A database of its own on the session's server."""

    def wait_until(self, sql: str, *arguments: object) -> None:
        """Wait until a query's one value is true."""
        with gevent.Timeout(LIMIT, AssertionError(f"never: {sql}")):
            while not self.query(sql, *arguments)[0][0]:
                gevent.idle()

    def listeners(self, count: int) -> list[int]:
        """Wait until so many sessions listen; return their server processes."""
        listening = (
            "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            " AND state = 'idle'"
        )
        self.wait_until(f"SELECT count(*) = {count} {listening}")
        return [pid for (pid,) in self.query(f"SELECT pid {listening}")]

    def wait_for_a_look(self) -> None:
        """Wait until one session that does not listen has looked at its table, and waits."""
        self.wait_until(
            "SELECT count(*) = 1 FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle' AND lower(query) = 'commit'"
        )

    def end_all_sessions(self) -> None:
        for pid in self.pids():
            self.terminate(pid)


class Example(Program):
    """A running example."""

    def __init__(self, process: gevent.subprocess.Popen[str], database: Database) -> None:
        super().__init__(process)
        self._database = database

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[str]:
        """End it by a signal; return what else it said."""
        self.process.send_signal(number)
        return self.ends()

    def ends(self) -> list[str]:
        """See that it ends well, and leaves no session; return what else it said."""
        said, errors = self.process.communicate(timeout=LIMIT)
        assert self.process.returncode == 0, errors
        assert "Traceback" not in errors, errors
        self._database.wait_until(
            "SELECT count(*) = 0 FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return str(said).splitlines()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=LIMIT)


class Browser:
    """What a page does: it keeps its cookie, and one event stream."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookie = ""

    def request(self, method: str, path: str, **form: str) -> tuple[int, str]:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        ) as connection:
            headers = {"Connection": "close", "Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, path, urlencode(form), headers | {"Cookie": self.cookie})
            response = connection.getresponse()
            self.cookie = response.getheader("Set-Cookie", self.cookie).partition(";")[0]
            return response.status, response.read().decode()

    def get(self, path: str) -> tuple[int, str]:
        return self.request("GET", path)

    def send(self, text: str) -> int:
        return self.request("POST", "/notify", text=text)[0]

    @contextlib.contextmanager
    def events(self, path: str = "/events?channel=chat") -> Iterator[Events]:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        ) as connection:
            connection.request("GET", path, headers={"Cookie": self.cookie})
            yield Events(connection.getresponse())


class Events:
    """An event stream that is being read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.type = response.getheader("Content-Type", "")
        self.start = self._block()
        """The id that makes a browser one that was here before."""

    def next(self) -> tuple[str, str]:
        """Wait for the next event; return its name and data."""
        block = self._block()
        return block["event"], block["data"]

    def ended(self) -> bool:
        """Wait for the end; whether nothing else came before it."""
        return not self._response.read()

    def _block(self) -> dict[str, str]:
        block: dict[str, str] = {}
        while line := self._response.readline().decode().rstrip("\n"):
            name, _, value = line.partition(": ")
            block[name.rstrip(":")] = value
        return block


@pytest.fixture
def database(server: Server, backend_name: str) -> Iterator[Database]:
    """Return an empty database."""
    name = f"examples_{backend_name}"
    server.query(f"CREATE DATABASE {name}")
    made = Database({**server.keywords, "dbname": name}, name)
    yield made
    made.close()
    server.query(f"DROP DATABASE {name}")


StartExample: TypeAlias = Callable[..., Example]


@pytest.fixture
def start_example(database: Database, backend_name: str) -> Iterator[StartExample]:
    """Return a function that starts an example, which is told of its database by a connection string."""
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str, **variables: str) -> Example:
            # Neither the folder, whose source would come before what is installed, nor PG* variables.
            environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
            environment |= {"PGLISTEN_DSN": database.dsn(), "PGLISTEN_BACKEND": backend_name}
            process = gevent.subprocess.Popen(
                [sys.executable, str(EXAMPLES / name), *arguments],
                env=environment | variables,
                stdin=gevent.subprocess.DEVNULL,
                stdout=gevent.subprocess.PIPE,
                stderr=gevent.subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Example(process, database)

        yield start


@pytest.fixture
def run_example(start_example: StartExample) -> Callable[..., None]:
    """Return a function that runs an example to its end."""

    def run(name: str, *arguments: str) -> None:
        process = start_example(name, *arguments).process
        said, errors = process.communicate(timeout=LIMIT)
        assert (process.returncode, errors) == (0, ""), said

    return run


@pytest.fixture
def serve(start_example: StartExample) -> Callable[..., tuple[Example, Browser]]:
    """Return a function that starts an example's own server, and a browser for it."""

    def start(name: str, **variables: str) -> tuple[Example, Browser]:
        port = free_port()
        example = start_example(name, str(port), **variables)
        example.hear(f"serving on http://127.0.0.1:{port}/")
        return example, Browser(port)

    return start


@pytest.fixture
def gunicorn_serve(database: Database, backend_name: str) -> Iterator[Callable[[str], tuple[Any, Browser]]]:
    """Return a function that starts gunicorn as an example says; libpq's variables lead to the database."""
    with contextlib.ExitStack() as stack:

        def start(application: str) -> tuple[subprocess.Popen[str], Browser]:
            # gunicorn gets the socket itself: its port can be nobody else's.
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("gunicorn")), "-k", "gevent", application),
                    *("-c", str(EXAMPLES / "gunicorn.conf.py"), "--chdir", str(EXAMPLES)),
                    *("--bind", f"fd://{listener.fileno()}", "--no-control-socket"),
                ],
                pass_fds=[listener.fileno()],
                env=database.variables(PGLISTEN_BACKEND=backend_name, SECRET_KEY="of these two workers"),
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process, Browser(listener.getsockname()[1])

        yield start


def seconds_to_end(process: subprocess.Popen[str]) -> float:
    """End gunicorn by SIGTERM, and see that it ends well; return how long it took."""
    began = time.monotonic()
    process.terminate()
    _, log = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, log
    assert "Traceback" not in log, log
    return time.monotonic() - began
