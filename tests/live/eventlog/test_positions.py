"""Positions are in the order of commits, whatever the writers do."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import gevent
import pytest

from pglisten.eventlog import EventLog
from support.chaos.log_writers import Transaction, transactions
from support.programs import log_writer
from support.servers.server import PrivateServer

pytestmark = pytest.mark.slow

WRITERS = 6
SECONDS = 10.0
LOGS = ("one", "two")


class Reader:
    """Asks for what is after the last position, again and again."""

    def __init__(self, server: PrivateServer, log: str) -> None:
        self._server = server
        self.log = log
        self.rows: list[tuple[int, str]] = []

    def read(self) -> None:
        last = self.rows[-1][0] if self.rows else 0
        self.rows += self._server.query(
            f"SELECT position, payload FROM {self.log}_log WHERE position > {last} ORDER BY position"
        )


def write(server: PrivateServer, folder: Path, readers: list[Reader]) -> list[Path]:
    """Let writers write, and kill one of them twice a second; return the files with their outcomes."""
    outcomes: list[Path] = []
    draw = random.Random(17)
    with ExitStack() as stack:

        def start() -> subprocess.Popen[bytes]:
            outcomes.append(folder / str(len(outcomes)))
            arguments = (server.dsn(), str(len(outcomes)), str(SECONDS), *LOGS)
            program = [sys.executable, str(log_writer.__file__), *arguments]
            return stack.enter_context(
                subprocess.Popen(program, stdout=stack.enter_context(outcomes[-1].open("w")))
            )

        writers = [start() for _ in range(WRITERS)]
        end, kill_at = time.monotonic() + SECONDS, time.monotonic() + 1
        while time.monotonic() < end:
            for reader in readers:
                reader.read()
            if time.monotonic() > kill_at:
                kill_at += 0.5
                victim = draw.randrange(WRITERS)
                writers[victim].kill()
                writers[victim] = start()
        for each in writers:
            each.kill()
    return outcomes


def test_positions_are_in_the_order_of_commits_and_each_entry_has_one(
    private_server: PrivateServer, tmp_path: Path
) -> None:
    pytest.importorskip("psycopg2")
    for log in LOGS:
        private_server.query(EventLog.sql(log))
    private_server.query("CREATE SCHEMA hostile")
    private_server.query(
        "CREATE FUNCTION hostile.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'hostile'; END$$"
    )
    readers = [Reader(private_server, log) for log in LOGS]
    outcomes = write(private_server, tmp_path, readers)
    # The sessions of killed writers may still be committing.
    while private_server.pids():
        gevent.idle()
    for reader in readers:
        reader.read()
    said = [each for path in outcomes for each in transactions(path)]
    acknowledged = {payload for each in said if each.committed for payload in each.payloads}
    begun = {payload for each in said for payload in each.payloads}
    read = {payload for reader in readers for _, payload in reader.rows}
    assert len(acknowledged) > 1000
    assert acknowledged <= read <= begun
    for reader in readers:
        # A reader that asks for what is after the last position has missed none, and no row is without one.
        rows = private_server.query(f"SELECT position, payload FROM {reader.log}_log ORDER BY position")
        assert rows == reader.rows
        assert private_server.query(f"SELECT count(*) FROM {reader.log}") == [(len(rows),)]
        check_order(said, {payload: position for position, payload in reader.rows})


def check_order(said: list[Transaction], positions: dict[str, int]) -> None:
    """Assert that what began to commit after another was acknowledged has higher positions."""
    mine = [
        (each, [positions[payload] for payload in each.payloads if payload in positions])
        for each in said
        if each.committed
    ]
    mine = [(each, numbers) for each, numbers in mine if numbers]
    by_end = sorted(mine, key=lambda pair: pair[0].committed or 0)
    highest, done = 0, 0
    for each, numbers in sorted(mine, key=lambda pair: pair[0].began):
        while by_end[done][0].committed < each.began:  # type: ignore[operator]
            highest = max(highest, *by_end[done][1])
            done += 1
        assert min(numbers) > highest
