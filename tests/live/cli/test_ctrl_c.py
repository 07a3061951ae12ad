"""Ctrl-C ends each command within a second and without a traceback, whatever the server does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.servers.server import Server
from support.servers.wrong_server import (
    DONE,
    GOOD,
    ONE_VALUE,
    STATUS,
    Endless,
    Script,
    Step,
    Then,
    Trickle,
    authentication,
    elsewhere_watched,
    notice,
    notification,
)

pytestmark = [pytest.mark.slow, pytest.mark.programs]  # Each test starts processes.

PROMISE = 1.0
"""Seconds from Ctrl-C to the end of the process."""
SLACK = 0.5
"""Additional seconds for a busy machine."""
WHILE = 0.3
"""Seconds that the server has before Ctrl-C."""

COMMANDS = {
    "listen": (("listen", "orders"), 0),
    "notify": (("notify", "orders", "x"), 130),
    "doctor": (("doctor", "--timeout", "20"), 130),
    "demo": (("demo",), 0),
    "demo in the terminal": (("demo", "--terminal"), 0),
}
"""The arguments of each command, and its exit status after Ctrl-C."""


class Command:
    """A running command, in a session of its own."""

    def __init__(
        self, tmp_path: Path, *arguments: str, stdout: int = subprocess.DEVNULL, python: str = ""
    ) -> None:
        self._errors = tmp_path / "stderr"
        with self._errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, *python.split(), "-m", "pglisten", *arguments],
                cwd=tmp_path,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Return what the command has written to standard error."""
        return self._errors.read_text()

    def interrupt(self) -> tuple[int, float]:
        """Press Ctrl-C once; return the exit status and the seconds until then."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(timeout=30)
        return status, time.monotonic() - started

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # The process ended with unwritten data.
                    stream.close()


Run = Callable[..., Command]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with contextlib.ExitStack() as stack:

        def run(*arguments: str, **more: object) -> Command:
            command = Command(tmp_path, *arguments, **more)  # type: ignore[arg-type]
            stack.callback(command.close)
            return command

        yield run


def ends(command: Command, status: int) -> None:
    found, took = command.interrupt()
    assert "Traceback" not in command.said
    assert found == status, command.said
    assert took < PROMISE + SLACK, took


def _is_worth_it(does: str, name: str) -> bool:
    """Return whether to try *name*: a demo is slow, and notify ends after the answer."""
    if name.startswith("demo"):
        return does in ("silence", "a flood", "a flood after the answer")
    return name != "notify" or "after" not in does


BEFORE: dict[str, Script] = {
    "silence": Script(startup=(Then.HOLD,)),
    "a trickle": Script(startup=(Trickle(authentication(0) + STATUS),)),
    "a flood": Script(startup=(authentication(0), Endless(STATUS))),
    "a flood of notices": Script(startup=(authentication(0), Endless(notice("x" * 1000)))),
    "half a message": Script(startup=(authentication(0)[:3], Then.HOLD)),
}
"""What a server does instead of accepting the login."""


@pytest.mark.pairwise
@pytest.mark.parametrize(
    ("does", "name"), [(does, name) for does in BEFORE for name in COMMANDS if _is_worth_it(does, name)]
)
def test_while_it_connects(run: Run, backend_name: str, name: str, does: str) -> None:
    arguments, status = COMMANDS[name]
    with elsewhere_watched(BEFORE[does]) as (dsn, reached):
        command = run(*arguments, "--dsn", dsn, "--backend", backend_name)
        reached()
        time.sleep(WHILE)
        # pg8000 treats a start-up of more than a megabyte as a failed attempt.
        ends(command, 1 if backend_name == "pg8000" and "flood" in does and name != "listen" else status)


@pytest.mark.pairwise
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("negotiation", ["postgres", "direct"])
def test_in_a_tls_handshake_that_is_frozen(run: Run, backend_name: str, name: str, negotiation: str) -> None:
    arguments, status = COMMANDS[name]
    script = Script(tls=b"S", startup=(Then.HOLD,))
    with elsewhere_watched(script) as (dsn, reached):
        with_tls = dsn.replace("sslmode=disable", f"sslmode=require sslnegotiation={negotiation}")
        command = run(*arguments, "--dsn", with_tls, "--backend", backend_name)
        if negotiation == "postgres":
            reached()
        else:
            # To the server this is not its protocol: it waits for the rest of a very long message.
            time.sleep(1)
        ends(command, status)


def _answers(*last: Step) -> dict[str, tuple[Script, ...]]:
    """Return each command's scripts, which answer its first query, or the doctor's LISTEN, by *last*."""
    first = Script(answers=(last,))
    return {
        "listen": (first,),
        "notify": (first,),
        # TLS, version and encoding come before LISTEN. The notifications come over a second connection.
        "doctor": (Script(answers=((DONE,), (DONE,), (DONE,), last)), GOOD),
        "demo": (GOOD, first),
        # The first connection is the sender's.
        "demo in the terminal": (GOOD, first),
    }


SHORT = notification(b"x")
WELL = ONE_VALUE + DONE
"""The answer to LISTEN, which proves that it was run to its end."""
AFTER: dict[str, dict[str, tuple[Script, ...]]] = {
    "silence": _answers(Then.HOLD),
    "a trickle": _answers(Trickle(SHORT * 10)),
    "silence after the answer": _answers(WELL, Then.HOLD),
    "a trickle after the answer": _answers(WELL, Trickle(SHORT * 10)),
    "a flood": _answers(Endless(SHORT)),
    "a flood after the answer": _answers(WELL, Endless(SHORT)),
    "a flood of notices": _answers(Endless(notice("x" * 1000))),
    "a flood of notices after the answer": _answers(WELL, Endless(notice("x" * 1000))),
}
"""What a server does after the login."""


@pytest.mark.pairwise
@pytest.mark.parametrize(
    ("does", "name"), [(does, name) for does in AFTER for name in COMMANDS if _is_worth_it(does, name)]
)
def test_when_it_is_connected(run: Run, backend_name: str, name: str, does: str) -> None:
    arguments, status = COMMANDS[name]
    with elsewhere_watched(*AFTER[does][name]) as (dsn, reached), contextlib.ExitStack() as stack:
        command = run(*arguments, "--dsn", dsn, "--backend", backend_name, stdout=subprocess.PIPE)
        assert command.process.stdout is not None
        if name == "demo":
            # The demo's workers connect after a page is opened.
            while not (line := command.process.stdout.readline()).startswith(b"Open "):
                assert line, command.said
            found = re.search(rb"http://[^:]+:(\d+)", line)
            assert found is not None
            page = stack.enter_context(socket.create_connection(("127.0.0.1", int(found[1]))))
            page.sendall(b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        reached()
        time.sleep(WHILE)
        ends(command, status)


@pytest.mark.parametrize("name", ["listen", "demo in the terminal", "doctor"])
def test_while_its_reader_takes_nothing(run: Run, backend_name: str, name: str) -> None:
    arguments, status = COMMANDS[name]
    with elsewhere_watched(*_answers(WELL, Endless(notification(b"order 1")))[name]) as (dsn, reached):
        read, write = os.pipe()
        # The first lines fill so small a pipe.
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        os.write(write, b"x" * 4000)
        command = run(*arguments, "--dsn", dsn, "--backend", backend_name, stdout=write)
        os.close(write)
        if name == "listen":
            reached()
        else:
            time.sleep(1)  # The process waits to write before it has printed all.
        time.sleep(WHILE)
        ends(command, status)
        os.close(read)


def test_while_standard_input_brings_nothing_or_does_not_end(run: Run, server: Server) -> None:
    command = run("notify", "orders", "-", "--dsn", server.dsn(), python="-X importtime")
    while "pglisten._cli.main\n" not in command.said:
        time.sleep(0.01)
    time.sleep(WHILE)
    ends(command, 130)
    endless = run("notify", "orders", "-", "--dsn", server.dsn())
    assert endless.process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        while endless.process.poll() is None:
            endless.process.stdin.write(b"x" * 4096)
    assert endless.process.wait(timeout=10) == 2
    assert "8001 bytes" in endless.said


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("moment", ["argparse", "pglisten._cli.main"])
def test_while_it_is_imported(run: Run, name: str, moment: str) -> None:
    arguments, status = COMMANDS[name]
    # The server does not answer, so that no command ends before the signal.
    with elsewhere_watched(Script(startup=(Then.HOLD,))) as (dsn, _):
        command = run(*arguments, "--dsn", dsn, python="-X importtime")
        while f" {moment}\n" not in command.said:
            assert command.process.poll() is None
        found, took = command.interrupt()
    assert "Traceback" not in command.said
    assert found in (-signal.SIGINT, 130, status)
    assert took < PROMISE + SLACK


def test_the_doctor_before_a_flood_ends_by_itself(run: Run, backend_name: str) -> None:
    timeout = 1.0
    with elsewhere_watched(*_answers(WELL, Endless(SHORT))["doctor"]) as (dsn, reached):
        arguments = ("doctor", "--timeout", str(timeout), "--dsn", dsn, "--backend", backend_name)
        command = run(*arguments, stdout=subprocess.PIPE)
        reached()
        assert command.process.stdout is not None
        found = command.process.stdout.read().decode()
        assert command.process.wait(timeout=10 * timeout) == 1
    assert "the server did not answer a query within 1 s" in found
