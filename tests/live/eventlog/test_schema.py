"""The tables of a log, and who may do what with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pglisten._eventlog.names import LogNames
from pglisten._eventlog.schema import create_sql, drop_sql
from pglisten.eventlog import EventLog
from support.logs import open_connection
from support.servers.server import Server

pytest.importorskip("psycopg2")

ODD = 'it\'s "a" log: 100% $pglisten$ \\?'


@pytest.fixture
def names(server: Server, log_schema: str) -> LogNames:
    names = LogNames("events", log_schema)
    server.query(create_sql(names))
    return names


def things(server: Server, schema: str) -> list[Any]:
    return server.query(
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = to_regnamespace(%s) UNION ALL "
        "SELECT proname, 'f' FROM pg_proc WHERE pronamespace = to_regnamespace(%s)",
        schema,
        schema,
    )


@pytest.mark.parametrize("name", ["events", ODD, "é" * 20])
def test_a_log_is_made_once_used_and_dropped_without_a_rest(
    server: Server, log_schema: str, name: str
) -> None:
    names = LogNames(name, log_schema)
    server.query(EventLog.sql(name, schema=log_schema))
    server.query(f"INSERT INTO {names.entries} (channel, payload) VALUES ('c', 'one')")
    made = sorted(things(server, log_schema))
    server.query(EventLog.sql(name, schema=log_schema))
    assert sorted(things(server, log_schema)) == made
    assert server.query(f"SELECT position, channel, payload FROM {names.view}") == [(1, "c", "one")]
    server.query(drop_sql(names))
    assert things(server, log_schema) == []
    server.query(drop_sql(names))


def test_it_is_made_in_the_transaction_of_a_migration(server: Server, log_schema: str) -> None:
    with open_connection("psycopg2", server) as opened:
        opened.cursor.execute("SET LOCAL search_path = app, public")
        opened.cursor.execute(EventLog.sql("events", schema=log_schema))
        opened.cursor.execute(EventLog.sql("events", schema=log_schema))
        opened.cursor.execute("SHOW search_path")
        assert opened.cursor.fetchone() == ("app, public",)
        opened.rollback()
    assert things(server, log_schema) == []


def test_a_newer_version_is_neither_changed_nor_used(server: Server, names: LogNames) -> None:
    server.query(f"COMMENT ON TABLE {names.entries} IS 'pglisten event log, version 2'")
    with pytest.raises(Exception, match=r"was made by a newer release of pglisten[\s\S]*Upgrade pglisten"):
        server.query(create_sql(names))


@pytest.mark.parametrize("statement", [create_sql, drop_sql])
def test_a_table_that_is_no_log_is_left_alone(server: Server, log_schema: str, statement: Any) -> None:
    server.query(f"CREATE TABLE {log_schema}.orders (id int)")
    server.query(f"CREATE TABLE {log_schema}.orders_state (id int)")
    before = things(server, log_schema)
    with pytest.raises(Exception, match="exists and is no event log of pglisten"):
        server.query(statement(LogNames("orders", log_schema)))
    assert things(server, log_schema) == before


@pytest.mark.parametrize("table", ["entries", "positions"])
def test_truncate_is_refused(server: Server, names: LogNames, table: str) -> None:
    with pytest.raises(Exception, match="cannot be truncated"):
        server.query(f"TRUNCATE {getattr(names, table)}")


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ("('', '')", "channel_length"),
        ("(repeat('é', 32), '')", "channel_length"),
        ("('c', repeat('x', 16 * 1024 * 1024 + 1))", "payload_length"),
    ],
)
def test_plain_sql_keeps_the_limits(server: Server, names: LogNames, values: str, constraint: str) -> None:
    with pytest.raises(Exception, match=constraint):
        server.query(f"INSERT INTO {names.entries} (channel, payload) VALUES {values}")


def test_rows_written_while_triggers_are_off_have_no_position(server: Server, names: LogNames) -> None:
    with open_connection("psycopg2", server) as opened:
        opened.cursor.execute("SET session_replication_role = replica")
        opened.cursor.execute(f"INSERT INTO {names.entries} (channel) VALUES ('c')")
        opened.commit()
    server.query(f"INSERT INTO {names.entries} (channel) VALUES ('d')")
    assert server.query(f"SELECT position, channel FROM {names.view}") == [(1, "d")]


def test_a_rolled_back_savepoint_that_had_drawn_a_position_leaves_the_others_one(
    server: Server, names: LogNames
) -> None:
    with open_connection("psycopg2", server) as opened:
        run = opened.cursor.execute
        run(f"INSERT INTO {names.entries} (channel) VALUES ('before')")
        run("SAVEPOINT s")
        run("SET CONSTRAINTS ALL IMMEDIATE")
        run(f"INSERT INTO {names.entries} (channel) VALUES ('gone')")
        run("ROLLBACK TO s")
        run(f"INSERT INTO {names.entries} (channel) VALUES ('after')")
        opened.commit()
    assert server.query(f"SELECT channel FROM {names.view} ORDER BY position") == [("before",), ("after",)]


def test_a_prepared_transaction_cannot_write_to_a_log(server: Server, names: LogNames) -> None:
    with open_connection("psycopg2", server) as opened:
        opened.cursor.execute(f"INSERT INTO {names.entries} (channel) VALUES ('c')")
        with pytest.raises(Exception, match=r"NOTIFY|prepared transactions are disabled"):
            opened.cursor.execute("PREPARE TRANSACTION 'p'")
        opened.rollback()


class Role:
    """A role without rights, and its session."""

    def __init__(self, server: Server, cursor: Any, name: str, schema: str) -> None:
        self.name = name
        self.run = cursor.execute
        self.rows = cursor.fetchall
        self._server = server
        server.query(f"GRANT USAGE ON SCHEMA {schema} TO {name}")

    def grant(self, what: str) -> None:
        self._server.query(f"GRANT {what} TO {self.name}")

    def may_not(self, statement: str) -> None:
        with pytest.raises(Exception, match="permission denied"):
            self.run(statement)


@pytest.fixture
def role(server: Server, log_schema: str, names: LogNames) -> Iterator[Role]:
    name = f"role_of_{log_schema}"
    server.query(f"CREATE ROLE {name}")
    with open_connection("psycopg2", server) as opened:
        opened.connection.autocommit = True
        opened.cursor.execute(f"SET ROLE {name}")
        yield Role(server, opened.cursor, name, log_schema)
    server.query(f"DROP OWNED BY {name}")
    server.query(f"DROP ROLE {name}")


def test_a_writer_needs_insert_alone(server: Server, role: Role, names: LogNames) -> None:
    role.may_not(f"INSERT INTO {names.entries} (channel) VALUES ('c')")
    role.grant(f"INSERT (channel, payload) ON {names.entries}")
    role.run(f"INSERT INTO {names.entries} (channel, payload) VALUES ('c', '1')")
    assert server.query(f"SELECT position, channel, payload FROM {names.view}") == [(1, "c", "1")]
    role.may_not(f"SELECT FROM {names.entries}")
    role.may_not(f"SELECT FROM {names.view}")
    role.may_not(f"INSERT INTO {names.positions} (id, channel) VALUES (1, 'c')")
    role.may_not(f"INSERT INTO {names.entries} (channel, created) VALUES ('c', 'infinity')")
    role.may_not(
        f"INSERT INTO {names.entries} (id, channel) OVERRIDING SYSTEM VALUE VALUES (1000000000, 'c')"
    )


def test_a_reader_needs_the_view_and_the_state(server: Server, role: Role, names: LogNames) -> None:
    server.query(f"INSERT INTO {names.entries} (channel, payload) VALUES ('c', '1')")
    role.may_not(f"SELECT FROM {names.view}")
    role.grant(f"SELECT ON {names.view}, {names.state}")
    role.run(f"SELECT position, payload, trimmed FROM {names.view}, {names.state}")
    assert role.rows() == [(1, "1", 0)]
    role.may_not(f"SELECT FROM {names.entries}")
    role.may_not(f"DELETE FROM {names.positions}")
    role.may_not(f"UPDATE {names.state} SET trimmed = 1")


def test_the_trigger_function_is_of_no_use_on_another_table(
    server: Server, role: Role, names: LogNames
) -> None:
    role.run("CREATE TEMPORARY TABLE mine (id bigint, channel text)")
    role.may_not(f"CREATE TRIGGER t AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION {names.function}()")


def test_a_writers_search_path_and_temporary_tables_do_not_mislead_the_trigger(
    server: Server, role: Role, names: LogNames
) -> None:
    role.grant(f"INSERT ON {names.entries}")
    role.run("CREATE TEMPORARY TABLE events_position (id bigint, channel text)")
    role.run(
        "CREATE FUNCTION pg_temp.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS "
        "$$BEGIN RAISE 'hostile'; END$$"
    )
    role.run("CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false)")
    role.run("SET search_path = pg_temp, pg_catalog")
    role.run(f"INSERT INTO {names.entries} (channel, payload) VALUES ('c', '1')")
    assert server.query(f"SELECT position, channel, payload FROM {names.view}") == [(1, "c", "1")]
