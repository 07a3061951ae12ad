"""An outbox: messages are written with the change that they report, and passed on once, in order.

    python examples/outbox.py create            # once: the tables, which a migration would make
    python examples/outbox.py follow
    python examples/outbox.py add one two       # one transaction, as an application would write them

The messages are entries of an event log. The follower is a named consumer of the log: its position is kept in
the database and moves in the transaction of its work. So a follower that was stopped or killed continues
where it was. Several followers take turns, and if one dies the next takes over.

PGLISTEN_DSN or the PG* variables name the database. PGLISTEN_BACKEND chooses the driver.
"""

from gevent import monkey

monkey.patch_all()

import os
import signal
import sys
from typing import Any

import database
import gevent

import pglisten
from pglisten.eventlog import Entry, EventLog

LOG = "outbox"


def handle(cursor: Any, entry: Entry) -> None:
    """Pass a message on.

    What this changes by *cursor* happens once. What it does elsewhere, such as printing, may happen again for
    the messages of one batch, if this process or its connection dies before the commit.
    """
    print(entry.position, entry.payload, flush=True)


def follow(log: EventLog) -> None:
    with database.connect() as connection:
        # Each batch is a transaction. It commits when the loop asks for the next one.
        for batch in log.consume("printer", connection):
            if batch is None:
                print("messages were trimmed before they were read", file=sys.stderr)
                continue
            cursor = connection.cursor()
            for entry in batch:
                handle(cursor, entry)


def main(broadcaster: pglisten.Broadcaster) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, broadcaster.close)
    with EventLog(LOG, broadcaster) as log:
        while not broadcaster.closed:
            try:
                follow(log)
            except pglisten.ListenerClosed:
                break
            except (database.Error, pglisten.ServerError) as error:
                print(f"{error}; again in a second", file=sys.stderr)
                gevent.sleep(1)


def add(log: EventLog, messages: list[str]) -> None:
    with database.connect() as connection:
        cursor = connection.cursor()
        # Here the application changes its own tables, in the same transaction.
        for message in messages:
            log.append("messages", message, cursor=cursor)
        connection.commit()


if __name__ == "__main__":
    # It connects on its first use: to add by a cursor is none.
    with pglisten.Broadcaster.from_config(os.environ) as broadcaster:
        match sys.argv[1:]:
            case ["create"]:
                database.run(EventLog.sql(LOG))
            case ["add", *messages]:
                add(EventLog(LOG, broadcaster), messages)
            case ["follow"]:
                main(broadcaster)
            case _:
                sys.exit(__doc__)
