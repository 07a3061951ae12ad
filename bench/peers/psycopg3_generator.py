"""psycopg 3: `Connection.notifies`."""

from __future__ import annotations

import argparse

import psycopg

from bench.peers.script import CHANNEL, Burst, arrived, main, say


def listening(uri: str) -> psycopg.Connection:
    made = psycopg.connect(uri, autocommit=True)
    made.execute(f"LISTEN {CHANNEL}")
    say(ready=True)
    return made


def burst(options: argparse.Namespace) -> None:
    notifies = listening(options.uri).notifies()
    next(notifies)
    watch, consumed = Burst(), 1
    for item in notifies:  # noqa: B007 - the last is looked at below
        consumed += 1
        if consumed == options.count:
            break
    watch.done(consumed, item.payload)


def latency(options: argparse.Namespace) -> None:
    notifies = listening(options.uri).notifies()
    for _ in range(options.count):
        arrived(next(notifies).payload)


if __name__ == "__main__":
    main(burst=burst, latency=latency)
