"""``pglisten demo`` as a process, and what it leaves."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pytest

Start: TypeAlias = Callable[..., "subprocess.Popen[str]"]

PATIENCE = 30.0
"""Seconds for what takes a few at most."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Python with some arguments."""
    with ExitStack() as stack:

        def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-X", "dev", *arguments],
                cwd=tmp_path,  # not the project's folder: see test_command_line.py
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def up_to(process: subprocess.Popen[str], pattern: str) -> list[str]:
    """Read standard output up to a line that matches."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return lines
    assert process.stderr is not None
    pytest.fail(f"no line matched {pattern!r}: {lines} {process.stderr.read()}")


def the_rest(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Read both streams to their ends; `communicate` would miss the lines that are buffered already."""
    assert process.stdout is not None
    assert process.stderr is not None
    told, said = process.stdout.read(), process.stderr.read()
    process.wait()
    return told, said


def wait(condition: Callable[[], object]) -> None:
    """Wait until *condition* holds; nothing tells what other processes' children are about."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Remains:
    """What a running demo has made, to see later whether it is gone."""

    def __init__(self, demo: subprocess.Popen[str]) -> None:
        self.processes = psutil.Process(demo.pid).children(recursive=True)
        commands = [command for process in self.processes if "-D" in (command := process.cmdline())]
        self.folders = {Path(command[command.index("-D") + 1]).parents[1] for command in commands}
        assert self.folders
        assert all(folder.name.startswith("pglisten-") and folder.exists() for folder in self.folders)

    def assert_gone(self) -> None:
        """Now."""
        assert self.left() == []

    def wait_gone(self) -> None:
        """Before long: whoever would have seen to it was killed."""
        wait(lambda: not self.left())

    def left(self) -> list[object]:
        # Nobody may be there to bury an orphan.
        return [process for process in self.processes if _lives(process)] + [
            folder for folder in self.folders if folder.exists()
        ]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class WebDemo:
    """A demo that has said its address."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = up_to(process, "^Open ")
        [self.url] = re.findall(r"^Open (http://\S+/) in a browser", self.said[-1])
        self.port = int(self.url.rstrip("/").rpartition(":")[2])

    @property
    def gunicorn(self) -> psutil.Process:
        """gunicorn's own process, the parent of the workers."""
        children = psutil.Process(self.process.pid).children()
        [found] = [child for child in children if "gunicorn" in " ".join(child.cmdline())]
        return found

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the process that owns database and web server, for as long as something is looked at."""
        self.process.send_signal(signal.SIGSTOP)
        yield
        self.process.send_signal(signal.SIGCONT)

    def request(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, None if body is None else json.dumps(body), named)
            response = connection.getresponse()
            return response.status, dict(response.headers), response.read()
        finally:
            connection.close()

    def post(self, path: str, token: str, **body: str) -> tuple[int, Any]:
        """Return status and JSON of the answer to what the page posts."""
        status, _, answer = self.request("POST", path, body, X_Demo_Token=token)
        return status, json.loads(answer)

    def send(self, token: str, text: str) -> None:
        """Send a notification through whichever worker; one that is not connected yet is asked again."""
        wait(lambda: self.post("/send", token, channel="chat", name="", text=text)[0] == 200)

    def refuses(self) -> bool:
        """Whether nobody listens any more."""
        try:
            socket.create_connection(("127.0.0.1", self.port), PATIENCE).close()
        except ConnectionRefusedError:
            return True
        return False


class Stream:
    """The page's event stream; a context manager."""

    def __init__(self, demo: WebDemo, path: str = "/events", **headers: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", demo.port, timeout=PATIENCE)
        self._connection.request("GET", path, headers={n.replace("_", "-"): v for n, v in headers.items()})
        self._response = self._connection.getresponse()
        assert self._response.headers["Content-Type"].startswith("text/event-stream")
        name, self.hello = self.event()
        assert name == "hello"
        self.token: str = self.hello["token"]

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def event(self) -> tuple[str, Any]:
        """Return name and data of the next event; ``("", None)`` at the end."""
        fields: dict[str, str] = {}
        while line := self._response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "" and "event" in fields:
                return fields["event"], json.loads(fields.get("data") or "null")
            fields[name.rstrip(":")] = value
        return "", None

    def until(self, name: str, /, **wanted: object) -> list[tuple[str, Any]]:
        """Return what comes up to an event of that name with that data."""
        seen = []
        while True:
            seen.append(self.event())
            found, data = seen[-1]
            if found == "":
                pytest.fail(f"the stream has ended: {seen}")
            if found == name and wanted.items() <= (data or {}).items():
                return seen

    def until_text(self, text: str) -> list[tuple[str, Any]]:
        """Return what comes up to the notification with that text."""
        seen: list[tuple[str, Any]] = []
        while not seen or json.loads(seen[-1][1]["payload"])["text"] != text:
            seen += self.until("notification")
        return seen


def stop(demo: WebDemo, number: signal.Signals = signal.SIGTERM) -> None:
    """End a demo; nothing is left, and nobody complained."""
    remains = Remains(demo.process)
    demo.process.send_signal(number)
    told, said = the_rest(demo.process)
    assert (demo.process.returncode, said) == (0, "")
    assert told.splitlines()[-1].startswith("The workers are gone")
    remains.assert_gone()
    assert demo.refuses()
