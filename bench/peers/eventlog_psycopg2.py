"""A log read by hand, with psycopg2: a notification and a SELECT."""

from __future__ import annotations

import argparse
import time

import psycopg2

from bench.peers.psycopg2_loop import wait
from bench.peers.script import arrived, main, say

PAGE = 500
QUERY = (
    "SELECT position, channel, payload, created FROM events_log "
    f"WHERE position > %s ORDER BY position LIMIT {PAGE}"
)


def entry_latency(options: argparse.Namespace) -> None:
    conn = psycopg2.connect(options.uri)
    conn.autocommit = True
    cursor, last, count = conn.cursor(), 0, 0
    cursor.execute('LISTEN "pglisten:public.events"')
    say(ready=True)
    while count < options.count:
        wait(conn)
        conn.notifies.clear()
        cursor.execute(QUERY, (last,))
        for row in cursor.fetchall():
            arrived(row[2])
            last = row[0]
            count += 1


def catch_up(options: argparse.Namespace) -> None:
    conn = psycopg2.connect(options.uri)
    conn.autocommit = True
    cursor, last, count = conn.cursor(), 0, 0
    began = time.perf_counter()
    while count < options.count:
        cursor.execute(QUERY, (last,))
        for row in cursor.fetchall():
            last = row[0]
            count += 1
    say(seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main(**{"entry-latency": entry_latency, "catch-up": catch_up})
