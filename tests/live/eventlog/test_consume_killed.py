"""A consumer that is killed in the middle of a query leaves no lock behind."""

from __future__ import annotations

import gevent
import pytest

from pglisten.eventlog import EventLog
from support.fixtures.consumers import add, sessions_in_transaction
from support.fixtures.programs import StartProgram
from support.logs import Opened, _for_pg8000
from support.servers.server import Server

KILLED = """
import gevent.monkey
gevent.monkey.patch_all()
import importlib
import sys
import gevent
import pglisten
from pglisten.eventlog import EventLog

module, keywords, dsn, backend, schema = sys.argv[1:]
connect = importlib.import_module(module).connect
connection = connect(**eval(keywords)) if module == "pg8000.dbapi" else connect(dsn)
with pglisten.Broadcaster(dsn, backend=backend) as broadcaster:
    log = EventLog("events", broadcaster, schema=schema)
    batches = log.consume("mail", connection)  # gevent forgets the arguments of a greenlet that it kills.
    waiting = gevent.spawn(next, batches)
    print("started", flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.readline)
    waiting.kill()
    print("killed", flush=True)
    gevent.get_hub().threadpool.apply(sys.stdin.readline)
"""


LOCKED = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@pytest.mark.parametrize("module", ["psycopg", "pg8000.dbapi"])
def test_a_consumer_that_is_killed_while_another_has_its_turn_keeps_no_lock(
    event_log: EventLog, server: Server, log_schema: str, backend_name: str, module: str, psycopg2: Opened,
    start_program: StartProgram,
) -> None:  # fmt: skip
    pytest.importorskip(module)
    add(event_log, "1")
    first = event_log.consume("mail", psycopg2.connection)
    next(first)
    keywords = repr(_for_pg8000(dict(server.keywords)))
    program = start_program(KILLED, module, keywords, server.dsn(), backend_name, log_schema)
    program.hear("started")
    with gevent.Timeout(20):
        while server.query(LOCKED) != [(1,)]:
            gevent.idle()
    program.process.stdin.write("\n"), program.process.stdin.flush()
    program.hear("killed")
    first.close()
    with gevent.Timeout(20):
        while server.query(LOCKED) != [(0,)]:
            gevent.idle()
    server.query(f"SET lock_timeout = '10s'; UPDATE {log_schema}.events_consumer SET position = position")
    program.process.kill()
    program.process.communicate()


def test_a_consumer_that_is_killed_while_it_waits_leaves_no_transaction(
    event_log: EventLog, psycopg2: Opened, server: Server
) -> None:
    consuming = gevent.spawn(list, event_log.consume("mail", psycopg2.connection))
    event_log.follow(timeout=20)
    gevent.idle()
    consuming.kill()
    assert sessions_in_transaction(server) == 0


PROGRAM = """
import sys
import gevent
import psycopg2
import pglisten
from pglisten.eventlog import EventLog

dsn, backend, schema = sys.argv[1:]
with pglisten.Broadcaster(dsn, backend=backend) as broadcaster:
    log, connection = EventLog("events", broadcaster, schema=schema), psycopg2.connect(dsn)
    for batch in log.consume("mail", connection, size=2):
        for entry in batch:
            connection.cursor().execute(f"INSERT INTO {schema}.work VALUES (%s)", (int(entry.payload),))
        print("done", batch[-1].payload, flush=True)
        if int(batch[-1].payload) >= 4:
            sys.stdin.readline()
"""


def test_work_of_a_consumer_that_is_killed_before_its_commit_is_done_once(
    event_log: EventLog, server: Server, log_schema: str, backend_name: str, start_program: StartProgram
) -> None:
    server.query(f"CREATE TABLE {log_schema}.work (number int)")
    add(event_log, *map(str, range(1, 8)))
    arguments = (PROGRAM, server.dsn(), backend_name, log_schema)
    first = start_program(*arguments)
    first.hear("done 2")
    first.hear("done 4")
    second = start_program(*arguments)
    with gevent.Timeout(20):
        while server.query("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") != [(1,)]:
            gevent.idle()
    first.process.kill()
    second.hear("done 4")
    for last in (6, 7):
        second.answer(), second.process.stdin.write("\n"), second.process.stdin.flush()
        second.hear(f"done {last}")
    assert server.query(f"SELECT number FROM {log_schema}.work ORDER BY number") == [
        (number,) for number in range(1, 7)
    ]
    second.process.kill()
    first.process.communicate()
    second.process.communicate()
