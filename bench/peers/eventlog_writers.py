"""Ways to add to a table that readers follow by position: eight writers, and a reader.

``--style serial`` is a serial column with NOTIFY, ``lock`` the same under an advisory lock from INSERT to
COMMIT, ``log`` an event log of pglisten.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import random
import select
import time
from multiprocessing.connection import Connection

import psycopg2
from psycopg2.extensions import connection

from bench.peers.script import CHANNEL, main, say
from pglisten.eventlog import EventLog

WRITERS = 8
SECONDS = 5.0
PAUSE = 0.02
"""Longest pause before COMMIT, in seconds, in a third of the transactions."""

SERIAL = """
DROP TABLE IF EXISTS events_log;
CREATE TABLE events_log (
    position bigserial PRIMARY KEY, channel text NOT NULL, payload text NOT NULL,
    created timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE OR REPLACE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_notify('bench', '');
    RETURN NULL;
END $$;
CREATE TRIGGER ring AFTER INSERT ON events_log FOR EACH STATEMENT EXECUTE FUNCTION ring();
"""


def connect(uri: str) -> connection:
    return psycopg2.connect(uri)


def make(uri: str, style: str) -> None:
    """Make the table, empty."""
    conn = connect(uri)
    with conn, conn.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        cursor.execute(EventLog.sql("events") if style == "log" else SERIAL)
    conn.close()


def write(uri: str, style: str, pause: float, seconds: float, seed: int, result: Connection) -> None:
    """Append until time is up; send how many entries were committed."""
    draw, conn, committed = random.Random(seed), connect(uri), 0
    table = "events" if style == "log" else "events_log"
    with conn.cursor() as cursor:
        result.send(None)
        result.recv()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if style == "lock":
                cursor.execute("SELECT pg_advisory_xact_lock(1)")
            cursor.execute(f"INSERT INTO {table} (channel, payload) VALUES ('c', %s)", ("x" * 100,))
            if draw.random() < 1 / 3:
                time.sleep(draw.random() * pause)
            if draw.random() < 0.1:
                conn.rollback()
            else:
                conn.commit()
                committed += 1
    conn.close()
    result.send(committed)


class Reader:
    """Reads what is after the last position, when a notification has come."""

    def __init__(self, uri: str, style: str) -> None:
        self.count = self._last = 0
        self._connection = connect(uri)
        self._connection.autocommit = True
        self._cursor = self._connection.cursor()
        self._cursor.execute('LISTEN "pglisten:public.events"' if style == "log" else f"LISTEN {CHANNEL}")

    def read(self, timeout: float) -> None:
        if select.select([self._connection], [], [], timeout)[0]:
            self._connection.poll()
            self._connection.notifies.clear()
            self.read_all()

    def read_all(self) -> None:
        self._cursor.execute(
            "SELECT position FROM events_log WHERE position > %s ORDER BY position", (self._last,)
        )
        rows = self._cursor.fetchall()
        if rows:
            self.count += len(rows)
            self._last = rows[-1][0]

    def close(self) -> None:
        self._connection.close()


def run(uri: str, style: str, pause: float, seconds: float) -> tuple[float, int]:
    """Let all write; return the entries a second, and how many the reader did not get."""
    make(uri, style)
    reader = Reader(uri, style)
    pipes, writers = [], []
    for number in range(WRITERS):
        ours, theirs = multiprocessing.Pipe()
        pipes.append(ours)
        writers.append(
            multiprocessing.Process(target=write, args=(uri, style, pause, seconds, number, theirs))
        )
        writers[-1].start()
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        reader.read(0.05)
    committed = sum(pipe.recv() for pipe in pipes)
    for writer in writers:
        writer.join()
    reader.read_all()
    reader.close()
    return committed / seconds, committed - reader.count


def copy(uri: str, style: str, rows: int) -> float:
    """Return the seconds of the COMMIT of a transaction that has copied *rows*."""
    make(uri, style)
    conn = connect(uri)
    with conn.cursor() as cursor:
        if style == "lock":
            cursor.execute("SELECT pg_advisory_xact_lock(1)")
        table = "events" if style == "log" else "events_log"
        cursor.copy_expert(
            f"COPY {table} (channel, payload) FROM STDIN", io.StringIO(f"c\t{'x' * 100}\n" * rows)
        )
    began = time.perf_counter()
    conn.commit()
    took = time.perf_counter() - began
    conn.close()
    return took


def append(options: argparse.Namespace) -> None:
    seconds = SECONDS if options.count >= 100_000 else 1.0
    paused, lost = run(options.uri, options.style, PAUSE, seconds)
    plain, _ = run(options.uri, options.style, 0.0, seconds)
    say(paused=paused, plain=plain, lost=lost, copy=copy(options.uri, options.style, options.count))


if __name__ == "__main__":
    main(append=append)
