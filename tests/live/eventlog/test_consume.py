"""Named consumers: what happens in the transactions of their batches happens once."""

from __future__ import annotations

import contextlib

import gevent
import pytest

from pglisten.eventlog import EventLog
from support.fixtures.consumers import add, payloads, position, sessions_in_transaction
from support.fixtures.eventlogs import MakeLog
from support.logs import Opened, open_connection
from support.servers.server import Server


def test_a_position_moves_with_the_transaction_of_the_work(
    event_log: EventLog, opened: Opened, server: Server, log_schema: str
) -> None:
    add(event_log, "1", "2", "3")
    batches = event_log.consume("mail", opened.connection, size=2)
    assert payloads(next(batches)) == ["1", "2"]
    assert position(server, log_schema) == 0
    assert payloads(next(batches)) == ["3"]
    assert position(server, log_schema) == 2
    with contextlib.suppress(ZeroDivisionError):
        batches.throw(ZeroDivisionError())
    assert position(server, log_schema) == 2
    for batch in event_log.consume("mail", opened.connection):
        assert payloads(batch) == ["3"]
        break  # The generator is closed, and rolls back.
    batches = event_log.consume("mail", opened.connection)
    assert payloads(next(batches)) == ["3"]
    waiting = gevent.spawn(next, batches)
    with gevent.Timeout(20):
        while sessions_in_transaction(server) or position(server, log_schema) != 3:
            gevent.idle()
    add(event_log, "4")
    assert payloads(waiting.get(timeout=20)) == ["4"]
    batches.close()
    assert position(server, log_schema) == 3


def test_an_entry_says_its_channel_and_when_it_was_made(event_log: EventLog, opened: Opened) -> None:
    add(event_log, "é", channel="ü")
    batch = next(event_log.consume("mail", opened.connection, "ü", "c"))
    assert batch is not None
    (entry,) = batch
    follower = event_log.follow(after=0, timeout=20)
    assert entry == follower.get(timeout=20)
    assert (entry.position, entry.channel, entry.payload) == (1, "ü", "é")


@pytest.mark.parametrize("channels", [("b",), ("b", "it's"), ()])
def test_a_consumer_gets_its_channels_and_no_false_gap(
    event_log: EventLog, opened: Opened, channels: tuple[str, ...], server: Server, log_schema: str
) -> None:
    add(event_log, "1", "2", channel="a")
    add(event_log, "3", channel="b")
    add(event_log, "4", channel="a")
    batches = event_log.consume("mail", opened.connection, *channels)
    assert payloads(next(batches)) == (["3"] if channels else ["1", "2", "3", "4"])
    waiting = gevent.spawn(next, batches)
    with gevent.Timeout(20):
        # The others' entries that it has passed over may be trimmed.
        while position(server, log_schema) != 4:
            gevent.idle()
    event_log.trim(keep=0, timeout=20)
    add(event_log, "5", channel="b")
    assert payloads(waiting.get(timeout=20)) == ["5"]
    batches.close()


def test_what_trim_removed_before_it_was_read_is_a_none(
    event_log: EventLog, opened: Opened, server: Server, log_schema: str
) -> None:
    add(event_log, "1")
    batches = event_log.consume("mail", opened.connection)
    assert payloads(next(batches)) == ["1"]
    opened_again = gevent.spawn(next, batches)
    with gevent.Timeout(20):
        while position(server, log_schema) != 1:
            gevent.idle()
    opened_again.kill()
    add(event_log, "2", "3", "4")
    assert event_log.trim(keep=1, timeout=20) == 3
    batches = event_log.consume("mail", opened.connection)
    assert next(batches) is None
    batches.close()
    batches = event_log.consume("mail", opened.connection)
    assert next(batches) is None  # The first was rolled back.
    assert payloads(next(batches)) == ["4"]
    assert position(server, log_schema) == 3
    batches.close()
    batches = event_log.consume("new", opened.connection)
    assert payloads(next(batches)) == ["4"]  # A new consumer has lost nothing.
    batches.close()


@pytest.mark.parametrize("kept", [0, 2])
def test_a_position_beyond_the_newest_one_is_a_none_and_goes_back(
    event_log: EventLog, psycopg2: Opened, server: Server, log_schema: str, kept: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    add(event_log, *map(str, range(kept)))
    # As after a restore of the consumers alone.
    server.query(f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('mail', 100)")
    batches = event_log.consume("mail", psycopg2.connection)
    assert next(batches) is None
    add(event_log, "new")
    assert payloads(next(batches)) == ["new"]
    assert position(server, log_schema) == kept
    batches.close()
    (record,) = (each for each in caplog.records if each.name == "pglisten.eventlog")
    assert (record.levelname, f"position 100, and the newest is {kept}" in record.message) == (
        "WARNING",
        True,
    )


def test_a_batch_has_few_bytes_or_one_entry(event_log: EventLog, psycopg2: Opened) -> None:
    for payload in ("x", "y" * 2**24, "z" * 2**24, "a", "b"):
        event_log.append("c", payload, timeout=20)
    batches = event_log.consume("mail", psycopg2.connection)
    assert [len(payloads(next(batches))) for _ in range(3)] == [2, 1, 2]
    batches.close()


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_consumers_of_one_name_take_turns_and_take_over(
    event_log: EventLog, server: Server, log_schema: str, level: str
) -> None:
    add(event_log, "1", "2", "3")
    with open_connection("psycopg2", server) as one, open_connection("pg8000", server) as two:
        one.connection.set_session(isolation_level=level)
        two.cursor.execute(f"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}")
        two.commit()
        first = event_log.consume("mail", one.connection, size=1)
        assert payloads(next(first)) == ["1"]
        waiting = gevent.get_hub().threadpool.spawn(
            lambda: payloads(next(event_log.consume("mail", two.connection, size=1)))
        )
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with gevent.Timeout(20):
            while server.query(blocked) != [(1,)]:
                gevent.idle()
        (status,) = event_log.status(timeout=20).consumers
        assert (status.name, status.position, status.behind, status.active) == ("mail", 0, 3, True)
        if level == "READ COMMITTED":
            first.close()
            assert waiting.get(timeout=20) == ["1"]
        else:
            assert payloads(next(first)) == ["2"]  # This commits; the other waits for the next turn.
            first.close()
            assert waiting.get(timeout=20) == ["2"]
    (status,) = event_log.status(timeout=20).consumers
    assert not status.active


def test_an_empty_batch_whose_commit_fails_to_serialize_is_tried_again(
    event_log: EventLog, opened: Opened, server: Server, log_schema: str
) -> None:
    add(event_log, "1", channel="other")
    server.query(f"""
        CREATE SEQUENCE {log_schema}.commits;
        CREATE FUNCTION {log_schema}.fail() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
            IF nextval('{log_schema}.commits') = 1 THEN
                RAISE EXCEPTION USING ERRCODE = 'serialization_failure';
            END IF;
            RETURN NULL;
        END$$;
        CREATE CONSTRAINT TRIGGER fail AFTER UPDATE ON {log_schema}.events_consumer
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION {log_schema}.fail()""")
    batches = event_log.consume("mail", opened.connection, "c")
    waiting = gevent.spawn(next, batches)
    with gevent.Timeout(20):
        while not waiting.ready() and server.query(f"SELECT position FROM {log_schema}.events_consumer") != [
            (1,)
        ]:
            gevent.idle()
    add(event_log, "2")
    assert payloads(waiting.get(timeout=20)) == ["2"]
    batches.close()
    assert server.query(f"SELECT last_value FROM {log_schema}.commits") == [(2,)]


def test_it_ends_when_the_log_is_closed(event_log: EventLog, psycopg2: Opened) -> None:
    consuming = gevent.spawn(list, event_log.consume("mail", psycopg2.connection))
    event_log.follow(timeout=20).close()
    event_log.close()
    assert consuming.get(timeout=20) == []
    psycopg2.cursor.execute("SELECT pg_current_xact_id_if_assigned()")
    assert psycopg2.cursor.fetchone() == (None,)


def test_a_poisoned_entry_is_put_aside_in_a_savepoint(
    event_log: EventLog, psycopg2: Opened, server: Server, log_schema: str
) -> None:
    server.query(f"CREATE TABLE {log_schema}.work (number int)")
    server.query(f"CREATE TABLE {log_schema}.poison (position bigint, reason text)")
    add(event_log, "1", "two", "3")
    cursor = psycopg2.connection.cursor()
    batches = event_log.consume("mail", psycopg2.connection)
    for entry in next(batches) or ():
        cursor.execute("SAVEPOINT entry")
        try:
            cursor.execute(f"INSERT INTO {log_schema}.work VALUES (CAST(%s AS int))", (entry.payload,))
        except psycopg2.connection.DataError as error:
            cursor.execute("ROLLBACK TO entry")
            cursor.execute(
                f"INSERT INTO {log_schema}.poison VALUES (%s, %s)", (entry.position, type(error).__name__)
            )
    psycopg2.connection.commit()
    batches.close()
    assert server.query(f"SELECT number FROM {log_schema}.work") == [(1,), (3,)]
    assert server.query(f"SELECT * FROM {log_schema}.poison") == [(2, "InvalidTextRepresentation")]
    assert position(server, log_schema) == 3


def test_logs_may_have_any_name(make_log: MakeLog, opened: Opened) -> None:
    log = make_log('100% "odd": a?')
    add(log, "100% :a ?")
    batches = log.consume("100% 'x' :a ?", opened.connection, "c", "d")
    assert payloads(next(batches)) == ["100% :a ?"]
    batches.close()


def test_times_that_python_cannot_express_stop_no_consumer(
    event_log: EventLog, opened: Opened, server: Server, log_schema: str
) -> None:
    server.query(
        f"INSERT INTO {log_schema}.events (channel, created) VALUES ('c', 'infinity'), ('c', '-infinity'), "
        "('c', '20000-01-01'), ('c', '4000-01-01 BC')"
    )
    batches = event_log.consume("mail", opened.connection)
    batch = next(batches)
    assert batch is not None
    assert [entry.created.year for entry in batch] == [9999, 1, 9999, 1]
    batches.close()
