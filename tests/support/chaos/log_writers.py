"""Processes that write to logs as badly as they may, are killed and replaced; and what they said they did."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gevent
from gevent.event import Event

from support.programs import log_writer

WRITERS = 4
APPLICATION = "chaos-writer"


@dataclass
class Transaction:
    """What a writer said of one transaction."""

    began: float
    """When it began to commit, by the monotonic clock, which all processes of a machine share."""
    payloads: list[str]
    committed: float | None = None
    """When the server acknowledged it; ``None`` if the outcome is unknown."""


def transactions(outcomes: Path) -> Iterator[Transaction]:
    """Return all transactions that began to commit, and were not refused."""
    open_one: Transaction | None = None
    for line in outcomes.read_text().splitlines():
        try:
            what, when, payloads = json.loads(line)
        except ValueError:  # The writer was killed in the middle of the line.
            break
        if what in ("began", log_writer.UNKNOWN) and open_one is not None:
            yield open_one
        if what == "began":
            open_one = Transaction(when, payloads)
            continue
        if what == "committed":
            assert open_one is not None
            open_one.committed = when
            yield open_one
        open_one = None
    if open_one is not None:
        yield open_one


class Writers:
    """Several writers. One of them is killed from time to time, and replaced."""

    def __init__(
        self, dsn: str, logs: Sequence[str], channels: Sequence[str], folder: Path, seed: int, bulk: int
    ) -> None:
        self.killed = 0
        self._dsn = dsn
        self._logs = list(logs)
        self._channels = ",".join(channels)
        self._folder = folder
        self._seed = seed
        self._bulk = bulk
        self._rng = random.Random(f"{seed} writers")
        self._files: list[Path] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = Event()
        self._running_on = Event()
        """Cleared while they are paused: one that starts meanwhile would write."""
        self._running_on.set()

    def start(self) -> None:
        for _ in range(WRITERS):
            self._running.append(self._start())

    def run(self) -> None:
        """Kill one at random moments, until `stop`. The first one, which copies many rows, lives."""
        while not self._stopping.wait(self._rng.uniform(0.3, 1.5)):
            number = self._rng.randrange(1, len(self._running))
            self._running_on.wait()
            killed, self._running[number] = self._running[number], self._start()
            self.killed += 1
            self._kill(killed)

    def pause(self) -> None:
        self._running_on.clear()
        for each in self._running:
            each.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        for each in self._running:
            each.send_signal(signal.SIGCONT)
        self._running_on.set()

    def stop(self) -> None:
        """Kill no more."""
        self._stopping.set()

    def wait_for_bulk(self, timeout: float) -> bool:
        """Wait until the rows are copied; return whether they are."""
        ends = time.monotonic() + timeout
        while not any(
            each.committed and len(each.payloads) == self._bulk for each in transactions(self._files[0])
        ):
            if time.monotonic() > ends:
                return False
            gevent.sleep(0.2)  # The writer is another process.
        return True

    def close(self) -> None:
        self._stopping.set()
        running, self._running = self._running, []
        for each in running:
            self._kill(each)

    def said(self) -> list[Transaction]:
        """Return what all have said."""
        return [each for file in self._files for each in transactions(file)]

    def _start(self) -> subprocess.Popen[bytes]:
        number = len(self._files)
        self._files.append(self._folder / f"writer{number}")
        options = ["--channels", self._channels, "--pause", "0.02", "--reconnect"]
        options += ["--bulk", str(self._bulk)] if not number else []
        arguments = [*options, self._dsn, str(self._seed * 1000 + number), "86400", *self._logs]
        with self._files[-1].open("wb") as output:
            program = [sys.executable, str(log_writer.__file__), *arguments]
            return subprocess.Popen(program, stdout=output, stderr=subprocess.DEVNULL)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        process.kill()
        while process.poll() is None:
            gevent.sleep(0.001)
