"""The process of a peer: start it, read its output, end it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]

TIMEOUT = 120.0
"""Seconds for a peer to print its next line."""


class PeerFailed(Exception):
    """A peer ended or printed nothing when a line was expected."""


def environment() -> dict[str, str]:
    """Return the environment of peers, without variables that configure a driver or slow Python down."""
    unwanted = ("PG", "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONTRACEMALLOC", "GEVENT")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


class Process:
    """A running peer. A context manager: at the end, a peer that has not ended is killed."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._popen = subprocess.Popen(
            self._command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, bufsize=0
        )
        assert self._popen.stdout is not None
        self._stdout = self._popen.stdout
        self._received = b""

    @property
    def pid(self) -> int:
        return self._popen.pid

    def expect(self, *names: str) -> Any:
        """Return the next line, which must have the fields *names*."""
        said = json.loads(self._line())
        if missing := set(names) - said.keys():
            raise PeerFailed(f"{self._name()} said {said} where {', '.join(missing)} was to come")
        return said

    def _line(self) -> bytes:
        deadline = time.monotonic() + TIMEOUT
        while b"\n" not in self._received:
            if not select.select([self._stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise PeerFailed(f"{self._name()} said nothing for {TIMEOUT:g} s")
            if not (data := self._stdout.read(65536)):
                raise PeerFailed(
                    f"{self._name()} ended with status {self._popen.wait()}; see its stderr above"
                )
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _name(self) -> str:
        # Without the connection string, which contains a password.
        return " ".join(word for word in self._command if "://" not in word)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._popen.kill()
        self._popen.wait()
        self._stdout.close()
