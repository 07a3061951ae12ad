"""Works on the entries of an event log as a named consumer, as badly as it may, until it is killed.

    log_consumer.py [--patched] [--calm] DSN BACKEND SEED LOG NAME RESULTS CHANNEL...

The work on a batch is a row in the table RESULTS for each entry, or one without position for a ``None``. Some
work raises, is broken off, or kills this process before it is committed: a line of JSON on standard output
names that attempt first. The connection, by the driver of BACKEND, is replaced when it is lost. With
--patched it waits cooperatively. With --calm all work succeeds, in larger batches.
"""

from __future__ import annotations

import sys

if "--patched" in sys.argv:
    from gevent import monkey

    monkey.patch_all()

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import time
from importlib import import_module
from typing import Any

import psycopg2.extensions

import pglisten
from pglisten._eventlog.cursors import sqlstate

SIZES = (1, 7, 100)
CALM_SIZE = 1000
"""Most entries in a batch of a calm consumer, which has to catch up."""

RAISED, LEFT, DIED = "raised", "left", "died"
"""Ways in which an attempt ends without a commit."""

WORKS = "works"
"""Said once, with the first batch."""

LOST = "lost"
FAILED = "failed"

ENDS = {"08", "57"}
"""Classes of errors with which a server ends or refuses a session."""
READ_ONLY = "25006"
"""A session with a server that is a standby, or was one when it began."""


class Refused(Exception):
    """The work on a batch has failed."""


def connect_pg8000(dsn: str) -> Any:
    """Connect to the first server that there is. The driver knows no lists of hosts."""
    options = psycopg2.extensions.parse_dsn(dsn)
    error: Exception = OSError("no host")
    for host, port in zip(options["host"].split(","), options["port"].split(","), strict=True):
        try:
            return _connect_pg8000(options, host, int(port))
        except (OSError, import_module("pg8000.dbapi").Error) as failed:
            error = failed
    raise error


def _connect_pg8000(options: dict[str, Any], host: str, port: int) -> Any:
    link = socket.create_connection((host, port), timeout=2.0)
    try:
        connection: Any = import_module("pg8000.dbapi").connect(
            options["user"],
            database=options["dbname"],
            password=options.get("password"),
            sock=link,
        )
        cursor = connection.cursor()
        cursor.execute("SHOW transaction_read_only")
        if cursor.fetchone()[0] != "off":
            raise OSError(f"the server at port {port} takes no writes")
        connection.rollback()
    except BaseException:
        link.close()
        raise
    # To wait for its turn may take longer.
    link.settimeout(None)
    return connection


def connect(backend: str, dsn: str) -> Any:
    """Return a connection of the driver that *backend* uses."""
    if backend == "pg8000":
        return connect_pg8000(dsn)
    return import_module(backend).connect(dsn, connect_timeout=2)


class Consumer:
    """One process's part of a named consumer."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.draw = random.Random(given.seed)
        self.number = 0
        broadcaster = pglisten.Broadcaster(
            given.dsn,
            backend=given.backend,
            min_reconnect_interval=0.02,
            max_reconnect_interval=0.2,
            connect_timeout=1.0,
            heartbeat_interval=0.3,
            heartbeat_timeout=0.3,
        )
        self.log = pglisten.EventLog(given.log, broadcaster)

    def run(self) -> None:
        """Consume, over one connection after the other."""
        connection: Any = None
        while True:
            try:
                if connection is None:
                    connection = connect(self.given.backend, self.given.dsn)
                self.consume(connection)
            except Refused:
                continue  # The same connection has to do.
            except Exception as error:  # noqa: BLE001 - of any driver
                self.check(error)
                self.close(connection)
                connection = None
                time.sleep(0.02)

    def consume(self, connection: Any) -> None:
        """Work on batches, until one is not worked on to its end."""
        size = CALM_SIZE if self.given.calm else self.draw.choice(SIZES)
        for batch in self.log.consume(self.given.name, connection, *self.given.channels, size=size):
            self.number += 1
            if self.number == 1:
                self.say(WORKS, self.attempt)
            self.work(connection, batch)
            fate = 1.0 if self.given.calm else self.draw.random()
            if fate < 0.003:
                self.say(DIED, self.attempt)
                os.kill(os.getpid(), signal.SIGKILL)
            elif fate < 0.02:
                self.say(RAISED, self.attempt)
                raise Refused
            elif fate < 0.03:
                self.say(LEFT, self.attempt)
                break

    @property
    def attempt(self) -> str:
        return f"{self.given.seed}/{self.number}"

    def work(self, connection: Any, batch: list[pglisten.Entry] | None) -> None:
        """Write results in two steps, sometimes with a pause in which the other process may come."""
        rows = [(None, None, None, None)] if batch is None else batch
        half = self.draw.randint(0, len(rows))
        self.insert(connection, rows[:half])
        if not self.given.calm and self.draw.random() < 0.1:
            time.sleep(self.draw.random() * 0.02)
        self.insert(connection, rows[half:])

    def insert(self, connection: Any, rows: Any) -> None:
        if rows:
            values = ", ".join(["(%s, %s, %s, %s, %s)"] * len(rows))
            cursor = connection.cursor()
            cursor.execute(
                f"INSERT INTO {self.given.results} (attempt, position, channel, payload, created) "
                f"VALUES {values}",
                [value for row in rows for value in (self.attempt, *row)],
            )
            cursor.close()

    def check(self, error: Exception) -> None:
        """Say that the connection is lost, or what else has failed."""
        lost = isinstance(error, OSError)
        if type(error).__module__.partition(".")[0] == self.given.backend:
            code = sqlstate(error)
            lost = code is None or code[:2] in ENDS or code == READ_ONLY
        self.say(LOST if lost else FAILED, f"{type(error).__name__}: {error}")

    @staticmethod
    def close(connection: Any) -> None:
        # Some drivers refuse to close a lost connection.
        with contextlib.suppress(Exception):
            if connection is not None:
                connection.close()

    @staticmethod
    def say(what: str, text: str) -> None:
        print(json.dumps([what, text]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--patched", action="store_true")
    parser.add_argument("--calm", action="store_true")
    parser.add_argument("dsn")
    parser.add_argument("backend")
    parser.add_argument("seed", type=int)
    parser.add_argument("log")
    parser.add_argument("name")
    parser.add_argument("results")
    parser.add_argument("channels", nargs="*")
    given = parser.parse_args()
    if given.patched and given.backend == "psycopg2":
        from pglisten_psycopg2 import make_green

        make_green()
    Consumer(given).run()


if __name__ == "__main__":
    main()
