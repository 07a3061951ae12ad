"""``pglisten`` as a process: start it, and read what it prints."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from support.servers.server import Server

Process = subprocess.Popen[str]
Start = Callable[..., Process]

# Warnings and leaks appear on standard error, which most tests compare.
PYTHON = [sys.executable, "-X", "dev", "-m", "pglisten"]


def told(process: Process, text: str) -> str:
    """Read standard error up to a line that contains *text*, and return that line."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        if text in line:
            return line
        seen.append(line)
    pytest.fail(f"it never said {text!r}, but {seen}")


def printed(process: Process) -> list[str]:
    """Read one line of standard output; return its fields."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.endswith("\n")
    return line[:-1].split("\t")


def ended(process: Process, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
    """Send a signal; return the exit status and the rest of both outputs."""
    process.send_signal(number)
    rest, said = process.communicate()
    return process.returncode, rest, said


def listening(start: Start, server: Server, backend_name: str, *arguments: str) -> Process:
    dsn = server.dsn(application_name=f"cli-{backend_name}")
    process = start("listen", *arguments, "--dsn", dsn, "--backend", backend_name)
    told(process, "listening to")
    return process
