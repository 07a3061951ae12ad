"""Follow a table that only grows: no row is missed or repeated, even if connections are lost.

    python examples/outbox.py create            # once: the tables and the trigger
    python examples/outbox.py follow
    python examples/outbox.py add one two       # one transaction, as an application would write them

The follower has three steps: LISTEN; read the table from the last number that it has seen; then read again
for each notification, and for each None. In this order no row is missed. The last number is kept in the
database, so a follower that was stopped or killed continues from there.

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

SCHEMA = """
CREATE TABLE outbox (id bigserial PRIMARY KEY, body text NOT NULL);
CREATE TABLE outbox_position (last bigint NOT NULL);
INSERT INTO outbox_position VALUES (0);
CREATE FUNCTION outbox_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- INSERT assigns the number, and COMMIT makes the row visible. This lock is held until COMMIT. Without it
    -- row 2 may be visible before row 1, and a follower that has seen row 2 does not look for row 1.
    PERFORM pg_advisory_xact_lock('outbox'::regclass::oid::bigint);
    NOTIFY outbox;
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_in_order BEFORE INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_in_order();
"""

BATCH = 100


def handle(number: int, body: str) -> None:
    """Process a row.

    After a crash it may be called again for the same rows. Its changes to this database, in the transaction
    of the read, still happen only once.
    """
    print(number, body, flush=True)


def read(connection: Any) -> None:
    """Handle all new rows."""
    cursor = connection.cursor()
    rows: list[Any] = [None]
    while rows:
        # With this lock only one of several followers reads; the next continues from its last row.
        cursor.execute("SELECT last FROM outbox_position FOR UPDATE")
        (last,) = cursor.fetchone()
        cursor.execute("SELECT id, body FROM outbox WHERE id > %s ORDER BY id LIMIT %s", (last, BATCH))
        rows = cursor.fetchall()
        for row in rows:
            handle(*row)
        if rows:
            cursor.execute("UPDATE outbox_position SET last = %s", (rows[-1][0],))
        connection.commit()


def follow(broadcaster: pglisten.Broadcaster) -> None:
    with (
        database.connect() as connection,
        # on_gap is called first, after LISTEN, and again for each None.
        broadcaster.subscribe("outbox", queue_size=1, on_gap=lambda: read(connection)) as subscription,
    ):
        for notification in subscription:
            if notification is not None:
                read(connection)


def main() -> None:
    with pglisten.Broadcaster.from_config(os.environ) as broadcaster:
        for number in (signal.SIGINT, signal.SIGTERM):
            gevent.signal_handler(number, broadcaster.close)
        while not broadcaster.closed:
            try:
                follow(broadcaster)
            except pglisten.ListenerClosed:
                break
            except database.Error as error:
                print(f"{error}; again in a second", file=sys.stderr)
                gevent.sleep(1)


def add(bodies: list[str]) -> None:
    with database.connect() as connection:
        # If the transaction also writes other tables, do this last: other transactions wait for the lock.
        for body in bodies:
            connection.cursor().execute("INSERT INTO outbox (body) VALUES (%s)", (body,))
        connection.commit()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["create"]:
            database.run(SCHEMA)
        case ["add", *bodies]:
            add(bodies)
        case ["follow"]:
            main()
        case _:
            sys.exit(__doc__)
