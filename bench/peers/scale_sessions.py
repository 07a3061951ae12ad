"""Sessions that listen, and writers that notify them, for the cost of NOTIFY itself: plain psycopg2.

``--style plain`` writes rows, ``heard`` also notifies what the sessions listen to, and ``elsewhere`` notifies
a channel that none of them listens to.
"""

from __future__ import annotations

import argparse
import multiprocessing
import select
import time
from multiprocessing.connection import Connection

import psycopg2

from bench.peers.script import CHANNEL, main, say

INSERT = "INSERT INTO scale (payload) VALUES (repeat('x', 100)) RETURNING id"
NOTIFY = f"WITH made AS ({INSERT}) SELECT pg_notify('{{}}', id::text) FROM made"
STATEMENTS = {
    "plain": INSERT,
    "elsewhere": NOTIFY.format(f"{CHANNEL}_elsewhere"),
    "heard": NOTIFY.format(CHANNEL),
}


def listen(options: argparse.Namespace) -> None:
    """Listen with many sessions, and report when all of them have what was sent alone."""
    sessions, waiting = {}, select.epoll()
    for _ in range(options.count):
        connection = psycopg2.connect(options.uri)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"LISTEN {CHANNEL}")
        sessions[connection.fileno()] = connection
        waiting.register(connection.fileno(), select.EPOLLIN)
    say(ready=True)
    have = 0
    while True:
        for descriptor, _ in waiting.poll():
            connection = sessions[descriptor]
            connection.poll()
            have += sum(each.payload.startswith("alone") for each in connection.notifies)
            connection.notifies.clear()
        if have == len(sessions):
            have = 0
            say(all=time.time_ns())


def commit(options: argparse.Namespace, pipe: Connection) -> None:
    """Commit one row after the other until time is up; send how many."""
    connection, commits = psycopg2.connect(options.uri), 0
    connection.autocommit = True
    statement = STATEMENTS[options.style]
    with connection.cursor() as cursor:
        pipe.send(None)
        pipe.recv()
        ends = time.monotonic() + options.seconds
        while time.monotonic() < ends:
            cursor.execute(statement)
            commits += 1
    pipe.send(commits)


def write(options: argparse.Namespace) -> None:
    """Let as many processes commit at the same time, and report their commits."""
    pipes = []
    for _ in range(options.count):
        ours, theirs = multiprocessing.Pipe()
        pipes.append(ours)
        multiprocessing.Process(target=commit, args=(options, theirs), daemon=True).start()
    for pipe in pipes:
        pipe.recv()
    for pipe in pipes:
        pipe.send(None)
    commits = sum(pipe.recv() for pipe in pipes)
    say(commits=commits, rate=commits / options.seconds)


if __name__ == "__main__":
    main(listen=listen, write=write)
