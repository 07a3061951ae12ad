"""pgnotify: `await_pg_notifications`. It delivers notifications of one read in reverse order."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import pgnotify

from bench.peers.script import CHANNEL, Burst, arrived, main, say


def listening(uri: str) -> Iterator[Any]:
    connection = pgnotify.get_dbapi_connection(uri)
    pgnotify.start_listening(connection, [CHANNEL])
    say(ready=True)
    return iter(pgnotify.await_pg_notifications(connection))


def burst(options: argparse.Namespace) -> None:
    notifications = listening(options.uri)
    next(notifications)
    watch, consumed = Burst(), 1
    for _ in notifications:
        consumed += 1
        if consumed == options.count:
            break
    watch.done(consumed, None)


def latency(options: argparse.Namespace) -> None:
    notifications = listening(options.uri)
    for _ in range(options.count):
        arrived(next(notifications).payload)


if __name__ == "__main__":
    main(burst=burst, latency=latency)
