"""Functions that an event log runs: for each entry in each process, and for batches in one of them."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue

import pglisten
from pglisten.eventlog import Entry, EventLog
from pglisten.testing import Proxy
from support.eventlogs import append, trim
from support.fixtures.consumers import add
from support.fixtures.listeners import succeeds
from support.logs import _dbapi
from support.servers.server import Server
from support.timeouts import TIMEOUT


def taken(calls: Queue[str], count: int) -> list[str]:
    return [calls.get(timeout=TIMEOUT) for _ in range(count)]


# For each entry


@pytest.mark.parametrize("with_on_gap", [True, False])
def test_after_a_failure_the_state_is_loaded_anew_or_the_entry_comes_again(
    event_log: EventLog, with_on_gap: bool
) -> None:
    calls: Queue[str] = Queue()
    on_gap = (lambda: calls.put("gap")) if with_on_gap else None
    began = Event()

    @event_log.on("c", on_gap=on_gap)
    def function(entry: Entry) -> None:
        calls.put(entry.payload)
        if entry.payload == "2" and not began.is_set():
            began.set()
            raise ValueError

    event_log._broadcaster.start()
    with event_log.follow(timeout=TIMEOUT):
        gevent.idle()
        add(event_log, "1", "2", "3")
    expected = ["gap", "1", "2", "gap", "3"] if with_on_gap else ["1", "2", "2", "3"]
    assert taken(calls, len(expected)) == expected
    stats = event_log._broadcaster.stats()
    assert (stats.consumers, stats.consumer_failures) == (1, 1)
    event_log.close()
    gevent.idle()
    assert event_log._broadcaster.stats().consumers == 0


def test_a_lost_connection_is_no_gap(log_behind_proxy: tuple[EventLog, Proxy], server: Server) -> None:
    log, proxy = log_behind_proxy
    calls: Queue[str] = Queue()
    log.on(on_gap=lambda: calls.put("gap"))(lambda entry: calls.put(entry.payload))
    log._broadcaster.start()
    assert taken(calls, 1) == ["gap"]
    proxy.refuse()
    proxy.cut("rst")
    append(server, log, "c", "sent while it was away")
    proxy.accept()
    assert taken(calls, 1) == ["sent while it was away"]


# Batches


def test_a_batch_comes_again_over_another_connection_and_its_work_is_done_once(
    event_log: EventLog, server: Server, log_schema: str, backend_name: str
) -> None:
    calls: Queue[str] = Queue()
    opened: list[Any] = []
    server.query(f"CREATE TABLE {log_schema}.done (payload text)")

    def connect() -> Any:
        opened.append(_dbapi(backend_name, server))
        return opened[-1]

    @event_log.on("c", consume="work", connect=connect, size=2)
    def function(entries: list[Entry], connection: Any) -> None:
        for entry in entries:
            connection.cursor().execute(f"INSERT INTO {log_schema}.done VALUES ('{entry.payload}')")
        calls.put(" ".join(entry.payload for entry in entries))
        if len(opened) == 1:
            raise ValueError

    add(event_log, "1", "2", "3")
    event_log._broadcaster.start()
    assert taken(calls, 3) == ["1 2", "1 2", "3"]
    with gevent.Timeout(TIMEOUT):
        while server.query(f"SELECT position FROM {log_schema}.events_consumer") != [(3,)]:
            gevent.idle()
    add(event_log, "4")
    assert taken(calls, 1) == ["4"]
    event_log._broadcaster.close()
    # It was stopped with its work done, and has committed that.
    assert server.query(f"SELECT payload FROM {log_schema}.done ORDER BY 1") == [(each,) for each in "1234"]
    assert len(opened) == 2


TWO = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
import pg8000.dbapi
from gevent.event import Event
from gevent.queue import Queue
from pglisten import Broadcaster, EventLog

dsn, backend, schema, *address = sys.argv[1:]
host, port, user, password, database = address
calls, free = Queue(), Event()

def connect():
    return pg8000.dbapi.connect(user, host, database, int(port), password or None)

def started(name):
    log = EventLog("events", Broadcaster(dsn, backend=backend), schema=schema)

    @log.on(consume="work", connect=connect)
    def function(entries, connection):
        calls.put(name)
        free.wait(20)

    log._broadcaster.start()
    return log

logs = {name: started(name) for name in "ab"}
logs["a"].append("c", "1", timeout=20)
first = calls.get(timeout=20)
# The other waits for the lock; this one is killed in its function, and its work is rolled back.
assert calls.empty()
logs.pop(first)._broadcaster.close(timeout=0)
second = calls.get(timeout=20)
assert second in logs
free.set()
logs.pop(second)._broadcaster.close(timeout=20)
print("well")
"""


@pytest.mark.slow
def test_one_of_several_has_the_batches_and_another_takes_over(
    event_log: EventLog, server: Server, log_schema: str, backend_name: str
) -> None:
    keywords = server.keywords
    address = [str(keywords.get(key, "")) for key in ("host", "port", "user", "password", "dbname")]
    succeeds(TWO, server.dsn(), backend_name, log_schema, *address)
    assert server.query(f"SELECT position FROM {log_schema}.events_consumer") == [(1,)]


def test_what_trim_has_removed_is_a_gap_in_the_transaction(
    event_log: EventLog, server: Server, log_schema: str
) -> None:
    calls: Queue[str] = Queue()
    connections: set[int] = set()

    def on_gap(connection: Any) -> None:
        calls.put("gap")
        connections.add(id(connection))

    @event_log.on(consume="work", connect=lambda: _dbapi("psycopg2", server), on_gap=on_gap)
    def function(entries: list[Entry], connection: Any) -> None:
        calls.put(entries[0].payload)
        connections.add(id(connection))

    add(event_log, "1", "2", "3")
    server.query(f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('work', 0)")
    trim(server, event_log, 2)
    event_log._broadcaster.start()
    assert taken(calls, 2) == ["gap", "3"]
    assert len(connections) == 1
    event_log._broadcaster.close()


def test_wrong_arguments_are_refused(event_log: EventLog) -> None:
    wrong: list[dict[str, Any]] = [
        {"consume": "work"},
        {"connect": print},
        {"consume": "work", "connect": "dsn"},
        {"consume": "", "connect": print},
        {"consume": "work", "connect": print, "size": 0},
        {"on_gap": 1},
    ]
    for options in wrong:
        with pytest.raises(pglisten.ConfigurationError):
            event_log.on("c", **options)
