"""A queue of jobs in a table, where a notification tells the workers about new jobs.

    python examples/work_queue.py create            # once: the table and its trigger
    python examples/work_queue.py work 3            # three workers; start any number of these
    python examples/work_queue.py add 1 0.5 2       # three jobs, with their duration in seconds

A worker does all jobs, then waits for a notification, which comes when jobs are added. It also looks for
jobs when it starts, and after a gap. A job stays in the table, locked, until it is done. If its worker dies,
the lock ends with the session, and another worker finds the job. So a job may be done twice, but it is never
lost.

PGLISTEN_DSN or the PG* variables name the database. PGLISTEN_BACKEND chooses the driver.
"""

from gevent import monkey

monkey.patch_all()

import contextlib
import os
import signal
import sys
from typing import Any

import database
import gevent

import pglisten

SCHEMA = """
CREATE TABLE jobs (
    id bigserial PRIMARY KEY, seconds float NOT NULL, due timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION jobs_added() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY jobs;  -- sent by the commit; a rollback sends nothing
    RETURN NULL;
END $$;
CREATE TRIGGER jobs_added AFTER INSERT ON jobs FOR EACH STATEMENT EXECUTE FUNCTION jobs_added();
"""

LOCK_ONE = """
SELECT id, seconds FROM jobs WHERE due <= now() ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
"""

LOOK_AGAIN = float(os.environ.get("LOOK_AGAIN", "60"))
"""Seconds. No notification comes for a job whose worker has died, or that is due later."""


def process(seconds: float) -> None:
    """Do a job, which takes *seconds*."""
    if seconds < 0:
        raise ValueError("there is no way back in time")
    gevent.sleep(seconds)


def do_one(connection: Any, number: int) -> bool:
    """Do the first job that no other worker is doing; return whether there was one."""
    cursor = connection.cursor()
    cursor.execute(LOCK_ONE)
    job = cursor.fetchone()
    if job is not None:
        print(f"worker {number} has job {job[0]}", flush=True)
        try:
            process(job[1])
        except Exception as error:
            print(f"job {job[0]} failed, again in a minute: {error}", flush=True)
            cursor.execute("UPDATE jobs SET due = now() + interval '1 minute' WHERE id = %s", (job[0],))
        else:
            cursor.execute("DELETE FROM jobs WHERE id = %s", (job[0],))
    connection.commit()
    if job is not None:
        print(f"worker {number} is through with job {job[0]}", flush=True)
    return job is not None


def work(broadcaster: pglisten.Broadcaster, number: int) -> None:
    # Subscribe first, then look for jobs. With queue_size=1 many notifications become one.
    with broadcaster.subscribe("jobs", queue_size=1) as subscription, database.connect() as connection:
        while not broadcaster.closed:
            if not do_one(connection, number):
                with contextlib.suppress(pglisten.OperationTimeout):
                    subscription.get(timeout=LOOK_AGAIN)  # a notification or a gap: look for jobs


def run(broadcaster: pglisten.Broadcaster, number: int) -> None:
    """Work until the broadcaster is closed, even if the database fails in between."""
    while True:
        try:
            work(broadcaster, number)
        except pglisten.ListenerClosed:
            return
        except database.Error as error:
            print(f"worker {number}: {error}; again in a second", flush=True)
            gevent.sleep(1)


def main(workers: int) -> None:
    with pglisten.Broadcaster.from_config(os.environ) as broadcaster:
        for number in (signal.SIGINT, signal.SIGTERM):
            # The workers finish their current jobs, and end.
            gevent.signal_handler(number, broadcaster.close)
        gevent.joinall([gevent.spawn(run, broadcaster, number + 1) for number in range(workers)])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["create"]:
            database.run(SCHEMA)
        case ["add", *jobs]:
            database.run(f"INSERT INTO jobs (seconds) VALUES {', '.join(f'({float(job)})' for job in jobs)}")
        case ["work", *workers]:
            main(int(workers[0]) if workers else 2)
        case _:
            sys.exit(__doc__)
