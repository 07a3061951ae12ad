"""Follow a table that is only added to: nothing missed, nothing twice, whatever is lost in between.

    python examples/outbox.py create            # once: the tables and the trigger
    python examples/outbox.py follow
    python examples/outbox.py add one two       # one transaction, as an application would write them

The follower has three steps: LISTEN; read the table from the last number it has seen; then read again for
each notification, and for each None. In this order nothing can slip in between. The last number is kept in
the database, so a follower that was stopped or killed goes on where it was.

Where the database is: PGLISTEN_DSN, or the PG* variables. PGLISTEN_BACKEND chooses the driver.
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
    -- A number is given with INSERT, and its row shows with COMMIT. Without this lock, held until then, row 2
    -- may show before row 1; and who has seen 2 does not look for 1 any more.
    PERFORM pg_advisory_xact_lock('outbox'::regclass::oid::bigint);
    NOTIFY outbox;
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_in_order BEFORE INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_in_order();
"""

BATCH = 100


def handle(number: int, body: str) -> None:
    """Do what is to be done for a row.

    After a crash it may be called once more for the same rows. What it does in this database, in the
    transaction of the read, is done once all the same.
    """
    print(number, body, flush=True)


def read(connection: Any) -> None:
    """Handle all that is new."""
    cursor = connection.cursor()
    rows: list[Any] = [None]
    while rows:
        # Locked: of several followers one reads, and the others go on where it has ended.
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
        # on_gap is called first, with LISTEN in force, and again for each None.
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
        # Where the application's own tables are written as well, this comes last: others wait for the lock.
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
