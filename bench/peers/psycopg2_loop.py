"""psycopg2 as in its documentation: `select` and `poll` in a loop."""

from __future__ import annotations

import argparse
import select

import psycopg2
from psycopg2.extensions import connection

from bench.peers.script import CHANNEL, Burst, arrived, main, say


def connect(uri: str) -> connection:
    """Return a connection that listens."""
    made = psycopg2.connect(uri)
    made.autocommit = True
    with made.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    return made


def listening(uri: str) -> connection:
    made = connect(uri)
    say(ready=True)
    return made


def wait(on: connection) -> None:
    while not on.notifies:
        select.select([on], [], [])
        on.poll()


def burst(options: argparse.Namespace) -> None:
    """Receive a burst: ``--style count`` adds up lengths only, ``each`` reads every item."""
    conn = listening(options.uri)
    wait(conn)
    watch, consumed = Burst(), 0
    each = options.style == "each"
    while True:
        wait(conn)
        items, conn.notifies = conn.notifies, []
        if each:
            for _ in items:
                consumed += 1
        else:
            consumed += len(items)
        if consumed >= options.count:
            break
    watch.done(consumed, items[-1].payload)


def latency(options: argparse.Namespace) -> None:
    conn = listening(options.uri)
    for _ in range(options.count):
        wait(conn)
        arrived(conn.notifies.pop(0).payload)


if __name__ == "__main__":
    main(burst=burst, latency=latency)
