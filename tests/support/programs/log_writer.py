"""Writes to event logs as badly as it may, until it is killed or its time is up.

    log_writer.py [--channels A,B] [--pause SECONDS] [--bulk ROWS] [--reconnect] DSN SEED SECONDS LOG...

With --bulk, it also copies so many rows in one transaction, again until that has succeeded. With --reconnect,
it survives its server. Each transaction that it has begun to commit, and each outcome, is a line of JSON on
standard output.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from typing import Any

import psycopg2

LEVELS = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
IMMEDIATE = "SET CONSTRAINTS ALL IMMEDIATE"
UNKNOWN = "unknown"
"""Outcome of a transaction whose session ended during COMMIT."""


class Writer:
    """One session, and what the transaction that it is in has written."""

    connection: Any
    cursor: Any

    def __init__(self, dsn: str, seed: int, logs: list[str], channels: list[str]) -> None:
        self.draw = random.Random(seed)
        self.seed = seed
        self.logs = logs
        self.channels = channels
        self.dsn = dsn
        self.connection = None
        self.number = 0
        self.kept: list[str] = []
        self.committing = False

    def connect(self) -> None:
        self.connection = psycopg2.connect(self.dsn)
        self.cursor = self.connection.cursor()

    @property
    def channel(self) -> str:
        return self.draw.choice(self.channels)

    def payload(self) -> str:
        self.number += 1
        return f"{self.seed}/{self.number}"

    def insert(self) -> None:
        log, written = self.draw.choice(self.logs), self.payload()
        self.insert_into(log, written)

    def insert_into(self, log: str, written: str) -> None:
        self.cursor.execute(f"INSERT INTO {log} (channel, payload) VALUES ('{self.channel}', %s)", (written,))
        self.kept.append(written)

    def copy(self, rows: int = 0) -> None:
        written = [self.payload() for _ in range(rows or self.draw.randint(1, 300))]
        lines = io.StringIO("".join(f"{self.channel}\t{each}\n" for each in written))
        self.cursor.copy_expert(f"COPY {self.draw.choice(self.logs)} (channel, payload) FROM STDIN", lines)
        self.kept += written

    def select(self) -> None:
        written = [self.payload() for _ in range(self.draw.randint(1, 300))]
        self.cursor.execute(
            f"INSERT INTO {self.draw.choice(self.logs)} (channel, payload) "
            f"SELECT '{self.channel}', unnest(%s)",
            (written,),
        )
        self.kept += written

    def savepoint(self) -> None:
        before = len(self.kept)
        self.cursor.execute("SAVEPOINT s")
        self.insert()
        if self.draw.random() < 0.3:
            self.cursor.execute(IMMEDIATE)
        if self.draw.random() < 0.5:
            self.cursor.execute("ROLLBACK TO s")
            del self.kept[before:]
        else:
            self.cursor.execute("RELEASE s")

    def block(self) -> None:
        log, gone, written = self.draw.choice(self.logs), self.payload(), self.payload()
        immediate = f"{IMMEDIATE};" if self.draw.random() < 0.3 else ""
        self.cursor.execute(
            f"""DO $$ BEGIN
                BEGIN
                    INSERT INTO {log} (channel, payload) VALUES ('{self.channel}', '{gone}'); {immediate}
                    RAISE EXCEPTION 'no';
                EXCEPTION WHEN raise_exception THEN
                    INSERT INTO {log} (channel, payload) VALUES ('{self.channel}', '{written}');
                END;
            END $$"""
        )
        self.kept.append(written)

    def opposite(self) -> None:
        for log in self.draw.sample(self.logs, len(self.logs)):
            self.insert_into(log, self.payload())

    def hostile(self) -> None:
        self.cursor.execute("SET LOCAL search_path = hostile, pg_catalog")
        self.insert()

    def impatient(self) -> None:
        self.cursor.execute(IMMEDIATE)
        if self.draw.random() < 0.5:
            self.cursor.execute("SELECT pg_advisory_unlock_all()")
        self.insert()

    def bulk(self, rows: int) -> None:
        self.kept = []
        self.copy(rows)
        self.commit()

    def transaction(self) -> None:
        self.kept = []
        self.cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {self.draw.choice(LEVELS)}")
        doings = (self.insert, self.savepoint, self.block, self.opposite, self.hostile, self.impatient)
        for _ in range(self.draw.randint(1, 4)):
            self.draw.choice(doings)()
        if self.draw.random() < 0.05:
            self.draw.choice((self.copy, self.select))()
        if self.draw.random() < 0.3:
            time.sleep(self.draw.random() * 0.02)
        if self.draw.random() < 0.1:
            self.connection.rollback()
            return
        self.commit()

    def commit(self) -> None:
        self.say("began", time.monotonic())
        self.committing = True
        self.connection.commit()
        self.committing = False
        self.say("committed", time.monotonic())

    def say(self, what: str | None, when: float) -> None:
        print(json.dumps([what, when, self.kept]), flush=True)

    def recover(self, error: psycopg2.Error, *, reconnect: bool) -> None:
        """Note that a transaction has failed, and be ready for the next one."""
        code, self.kept = error.pgcode or "", []
        lost = self.connection.closed or code[:2] in ("", "08", "57")
        self.say(UNKNOWN if self.committing and lost else code, time.monotonic())
        self.committing = False
        try:
            self.connection.rollback()
        except psycopg2.Error:
            if not reconnect:
                raise
            self.connection.close()
            self.connect_somehow()

    def connect_somehow(self) -> None:
        """Connect, as soon as there is a server."""
        while self.connection is None or self.connection.closed:
            try:
                self.connect()
            except psycopg2.Error:
                time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--channels", default="c")
    parser.add_argument("--pause", type=float, default=0.0, help="most seconds between transactions")
    parser.add_argument("--bulk", type=int, default=0)
    parser.add_argument("--reconnect", action="store_true")
    parser.add_argument("dsn")
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("logs", nargs="+")
    given = parser.parse_args()
    writer = Writer(given.dsn, given.seed, given.logs, given.channels.split(","))
    if given.reconnect:
        writer.connect_somehow()
    else:
        writer.connect()
    end = time.monotonic() + given.seconds
    bulk = given.bulk
    while time.monotonic() < end:
        try:
            if bulk and writer.number > 100:
                writer.bulk(bulk)
                bulk = 0
            writer.transaction()
            time.sleep(writer.draw.random() * given.pause)
        except psycopg2.Error as error:
            writer.recover(error, reconnect=given.reconnect)


if __name__ == "__main__":
    main()
