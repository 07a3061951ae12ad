"""`psycopg.pq` in a plain loop that decodes each notification: the lowest possible cost with psycopg 3."""

from __future__ import annotations

import argparse
import select

from psycopg import pq
from psycopg.pq.abc import PGconn

from bench.peers.script import CHANNEL, Burst, arrived, main, say


def listening(uri: str) -> PGconn:
    made = pq.PGconn.connect(uri.encode())
    made.exec_(f"LISTEN {CHANNEL}".encode())
    say(ready=True)
    return made


def wait(on: PGconn) -> None:
    select.select([on.socket], [], [])
    on.consume_input()


def burst(options: argparse.Namespace) -> None:
    conn = listening(options.uri)
    wait(conn)
    watch, consumed, payload = Burst(), 0, ""
    while True:
        while (item := conn.notifies()) is not None:
            item.relname.decode()
            payload = item.extra.decode()
            consumed += 1
        if consumed >= options.count:
            break
        wait(conn)
    watch.done(consumed, payload)


def latency(options: argparse.Namespace) -> None:
    conn = listening(options.uri)
    for _ in range(options.count):
        while (item := conn.notifies()) is None:
            wait(conn)
        arrived(item.extra.decode())


if __name__ == "__main__":
    main(burst=burst, latency=latency)
