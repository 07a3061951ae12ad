"""Programs of tests that run beside them: what patches, forks or is killed has a process of its own."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import gevent
import gevent.subprocess
import pytest

LIMIT = 50
"""Seconds for a program's next line or its end: under the tests' own limit, to have its errors shown."""

CHILDREN = """
import os, signal, sys
if sys.argv[1] == "patched":
    from gevent import monkey
    monkey.patch_all()
import gevent, gevent.os, gevent.socket

def watched():
    # Before any child of gevent's: it does it with the first, and never hears of one that is dead by then.
    gevent.get_hub().loop.install_sigchld()

if sys.argv[1] == "patched":
    watched()

def raw_fork(how="os"):
    if how == "gevent":
        watched()
    return (os.fork if how == "os" else gevent.os.fork)()

def fork(child, how="os"):
    # Run child() in a forked child and return its process id; it never comes back from there.
    if how == "multiprocessing":
        import multiprocessing
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        return process.pid
    found = raw_fork(how)
    if found:
        return found
    signal.alarm(20)  # A child that hangs is ended, and its status tells.
    code = 1
    try:
        child()
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

def status(pid):
    # Wait for a child's end cooperatively; return its exit status, negative for a signal's.
    with gevent.Timeout(40):
        while True:
            found, status = gevent.os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            gevent.sleep(0.005)

def asked(text):
    # Say a line, and wait cooperatively until the test has answered.
    print(text, flush=True)
    gevent.socket.wait_read(0, timeout=40)
    assert os.read(0, 1)
"""
"""What such programs begin with; their first argument is ``plain`` or ``patched``."""


class Program:
    """A running program; the test's greenlets, its proxies among them, go on meanwhile."""

    def __init__(self, process: gevent.subprocess.Popen[str]) -> None:
        self.process = process

    def line(self) -> str:
        """Wait for the next line that it says."""
        assert self.process.stdout is not None
        with gevent.Timeout(LIMIT):
            return self.process.stdout.readline().rstrip("\n")

    def hear(self, text: str) -> None:
        """Wait until the program says *text*, and nothing before it."""
        if (said := self.line()) != text:
            self.process.kill()
            pytest.fail(f"it said {said!r} and not {text!r}: {self._rest()}")

    def answer(self) -> None:
        """Let it go on from where it ``asked``."""
        assert self.process.stdin is not None
        self.process.stdin.write(".")
        self.process.stdin.flush()

    def ends_well(self) -> str:
        """Wait for its end; return what else it said. Its last line is "well" if all is."""
        said, errors = self._rest()
        assert (self.process.returncode, said.splitlines()[-1:]) == (0, ["well"]), (said, errors)
        return said

    def _rest(self) -> tuple[str, str]:
        try:
            said, errors = self.process.communicate(timeout=LIMIT)
        except gevent.subprocess.TimeoutExpired:
            self.process.kill()
            said, errors = self.process.communicate()
        return said, errors


StartProgram: TypeAlias = Callable[..., Program]


@pytest.fixture
def start_program() -> Iterator[StartProgram]:
    """Return a function that starts a Python program with some arguments."""
    with contextlib.ExitStack() as stack:

        def start(text: str, *arguments: str, **variables: object) -> Program:
            process = gevent.subprocess.Popen(
                [sys.executable, "-c", text, *arguments],
                stdin=gevent.subprocess.PIPE,
                stdout=gevent.subprocess.PIPE,
                stderr=gevent.subprocess.PIPE,
                text=True,
                **variables,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return Program(process)

        yield start
