"""A plain psycopg2 loop under gevent: the lowest possible cost of a listener in a greenlet."""

from __future__ import annotations

import argparse

from gevent.socket import wait_read
from psycopg2.extensions import connection

from bench.peers.busy import Ticker, busy_greenlets
from bench.peers.psycopg2_loop import listening
from bench.peers.script import Burst, arrived, main, say


def wait(on: connection) -> None:
    while not on.notifies:
        wait_read(on.fileno())
        on.poll()


def burst(options: argparse.Namespace) -> None:
    conn = listening(options.uri)
    ticker = Ticker() if options.ticker else None
    wait(conn)
    watch, consumed = Burst(), 0
    while consumed < options.count:
        wait(conn)
        items, conn.notifies = conn.notifies, []
        for _ in items:
            consumed += 1
    watch.done(consumed, items[-1].payload)
    if ticker is not None:
        say(**ticker.lap())


def latency(options: argparse.Namespace) -> None:
    with busy_greenlets(options.busy):
        conn = listening(options.uri)
        for _ in range(options.count):
            wait(conn)
            arrived(conn.notifies.pop(0).payload)


if __name__ == "__main__":
    main(burst=burst, latency=latency)
