"""Sends a burst of numbered notifications, 10,000 per transaction.

    python -m bench.sender URI COUNT SIZE

The statements return no rows, so that the sender costs almost nothing beside the server and the listener.
"""

from __future__ import annotations

import sys

import psycopg2

from bench.peers.script import CHANNEL

TRANSACTION = 10_000


def main(uri: str, count: int, size: int) -> None:
    connection = psycopg2.connect(uri)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for start in range(0, count, TRANSACTION):
            cursor.execute(
                "SELECT count(pg_notify(%s, rpad(i || ' ', %s, 'x'))) FROM generate_series(%s, %s) i",
                (CHANNEL, size, start, min(start + TRANSACTION, count) - 1),
            )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
