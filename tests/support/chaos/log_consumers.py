"""Two processes that are one named consumer of a log in a chaos run. They are killed and started again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent
from gevent.event import Event

from pglisten import Entry
from support.chaos.log_results import Result, handovers
from support.programs import log_consumer
from support.programs.log_consumer import DIED, FAILED, LEFT, LOST, RAISED
from support.servers.server import Server

NAME = "chaos"
RESULTS = "chaos_results"
PROCESSES = 2


def make_results(server: Server) -> None:
    """Make the table of what the consumer's work does."""
    server.query(
        f"CREATE TABLE {RESULTS} (id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY, "
        "attempt text NOT NULL, position bigint, channel text, payload text, created timestamptz, "
        "at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )


def read_results(server: Server) -> list[Result]:
    """Return the results in the order of their insertion."""
    rows = server.query(
        "SELECT attempt, extract(epoch FROM at)::float8, position, channel, payload, created "
        f"FROM {RESULTS} ORDER BY id"
    )
    return [Result(attempt, at, None if rest[0] is None else Entry(*rest)) for attempt, at, *rest in rows]


class NamedConsumer:
    """Two processes that take turns. One of them is killed from time to time; some end by themselves."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: str,
        channels: Sequence[str],
        folder: Path,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        """Take the *arguments* of the program up to its seed. *note* takes what may not happen."""
        self.log = log
        self.channels = channels
        self.killed = 0
        self._arguments = arguments
        self._folder = folder
        self._seed = seed
        self._note = note
        self._rng = random.Random(f"{seed} consumers")
        self._files: list[Path] = []
        self._outputs: dict[int, Path] = {}
        """Where each process that runs writes to."""
        self._running: list[subprocess.Popen[bytes]] = []
        self._stopping = Event()

    def start(self) -> None:
        self._running = [self._start(number) for number in range(PROCESSES)]

    def run(self) -> None:
        """Kill one at random moments, and replace those that have ended, until `stop`."""
        kill_at = 0.0
        while not self._stopping.wait(0.02):  # Nothing tells when a process has ended.
            for number, process in enumerate(self._running):
                if process.poll() is not None:
                    self._check_end(process)
                    self._running[number] = self._start(number)
            number = self._rng.randrange(PROCESSES)
            if time.monotonic() > kill_at and self._works(number):
                if kill_at:
                    self.killed += 1
                    self._running[number].kill()
                kill_at = time.monotonic() + self._rng.uniform(0.5, 2.5)

    def stop(self) -> None:
        """Kill no more."""
        self._stopping.set()

    def calm_down(self) -> None:
        """Replace both by ones whose work succeeds."""
        self.close()
        self._running = [self._start(number, "--calm") for number in range(PROCESSES)]

    def wait_for(self, server: Server, payload: str, timeout: float) -> bool:
        """Wait until the work on the entry with *payload* is committed; return whether it is."""
        ends = time.monotonic() + timeout
        there = f"SELECT 1 FROM {RESULTS} WHERE payload = %s LIMIT 1"
        while not server.query(there, payload):
            if time.monotonic() > ends:
                return False
            gevent.sleep(0.05)  # The consumer is another process.
        return True

    def close(self) -> None:
        """Kill both."""
        self._stopping.set()
        running, self._running = self._running, []
        for each in running:
            if each.poll() is not None:
                self._check_end(each)
            each.kill()
            while each.poll() is None:
                gevent.sleep(0.001)

    def undone(self) -> set[str]:
        """Return the attempts that were not committed."""
        return {text for what, text in self._said() if what in (RAISED, LEFT, DIED)}

    def failures(self) -> list[str]:
        """Return what failed and is no lost connection."""
        return [text for what, text in self._said() if what == FAILED]

    def describe(self, results: Sequence[Result]) -> str:
        """Return figures, with those of its *results*."""
        counts = Counter(what for what, _ in self._said())
        gaps = sum(result.entry is None for result in results)
        return (
            f"a named consumer, {self.killed} times killed, {counts[DIED]} died, "
            f"{counts[RAISED] + counts[LEFT]} rolled back, {counts[LOST]} without connection, "
            f"{handovers(results)} handovers, worked on {len(results) - gaps} and {gaps} None"
        )

    def _said(self) -> Iterator[tuple[str, str]]:
        for file in self._files:
            for line in file.read_text().splitlines():
                try:
                    what, text = json.loads(line)
                except ValueError:  # The process was killed in the middle of the line.
                    continue
                yield what, text

    def _works(self, number: int) -> bool:
        """Whether a process has had a batch. A busy machine would let none come so far."""
        return self._outputs[number].stat().st_size > 0

    def _start(self, number: int, *options: str) -> subprocess.Popen[bytes]:
        count = len(self._files)
        self._files.append(self._folder / f"consumer{count}")
        self._outputs[number] = self._files[-1]
        if number == 0:
            options = (*options, "--patched")
        arguments = [*options, *self._arguments, str(self._seed * 1000 + count), self.log, NAME, RESULTS]
        errors = self._files[-1].with_suffix(".errors")
        with self._files[-1].open("wb") as output, errors.open("wb") as complaints:
            program = [sys.executable, str(log_consumer.__file__), *arguments, *self.channels]
            return subprocess.Popen(program, stdout=output, stderr=complaints)

    def _check_end(self, process: subprocess.Popen[bytes]) -> None:
        texts = [each.read_text()[-2000:] for each in self._folder.glob("consumer*.errors")]
        # Popen says 0 if gevent's event loop has waited for the process, as it does after a fork in a test.
        if process.returncode not in (-signal.SIGKILL, 0) or any("Traceback" in each for each in texts):
            self._note(f"a consumer ended with {process.returncode}: {[each for each in texts if each]}")
