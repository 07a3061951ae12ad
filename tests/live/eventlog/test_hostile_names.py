"""A schema of others, first in search_path, runs nothing with the rights of the log's users."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import EventLog, ListenerConnection
from pglisten._eventlog.names import LogNames
from pglisten._eventlog.schema import drop_sql
from support.fixtures.broadcasters import MakeBroadcaster
from support.logs import open_connection
from support.servers.server import Server
from support.timeouts import TIMEOUT

FUNCTIONS = """
    SELECT DISTINCT proname, pg_get_function_identity_arguments(oid) FROM pg_proc
    WHERE pronamespace = 'pg_catalog'::regnamespace AND provariadic = 0 AND prokind = 'f' AND proname IN (
        'clock_timestamp', 'octet_length', 'pg_current_xact_id_if_assigned', 'pg_advisory_xact_lock',
        'obj_description', 'to_regclass', 'to_regprocedure', 'starts_with', 'substr', 'set_config',
        'current_setting', 'pg_notify', 'make_interval', 'chr', 'date_part', 'date_trunc'
    )"""
AGGREGATES = [(name, kind) for name in ("sum", "count", "max", "min") for kind in ("bigint", "integer")]
OPERANDS = [
    ("pg_catalog.text", "pg_catalog.text"), ("pg_catalog.timestamptz", "pg_catalog.timestamptz"),
    ("bigint", "bigint"), ("bigint", "integer"), ("numeric", "integer"), ("numeric", "bigint"),
]  # fmt: skip


@pytest.fixture
def hostile(server: Server, log_schema: str) -> Iterator[str]:
    """Return a schema with types, functions and operators like those of pg_catalog. To use one raises."""
    evil, trap = f"{log_schema}_evil", "LANGUAGE plpgsql AS $$BEGIN RAISE 'hostile'; END$$"
    made = [f"CREATE SCHEMA {evil}", f"CREATE FUNCTION {evil}.trap() RETURNS boolean {trap}"]
    made += [
        f"CREATE DOMAIN {evil}.{name} AS pg_catalog.{name} CHECK ({evil}.trap())"
        for name in ("text", "timestamptz", "int8", "regclass")
    ]
    for name, arguments in [*server.query(FUNCTIONS), *AGGREGATES]:
        made.append(f"CREATE FUNCTION {evil}.{name}({arguments}) RETURNS pg_catalog.text {trap}")
    for left, right in OPERANDS:
        made.append(f"CREATE FUNCTION {evil}.operate({left}, {right}) RETURNS boolean {trap}")
        made += [
            f"CREATE OPERATOR {evil}.{sign} (FUNCTION = {evil}.operate, LEFTARG = {left}, RIGHTARG = {right})"
            for sign in ("=", "<", ">", "<=", ">=", "*", "-", "||")
        ]
    server.query(";".join(made))
    yield evil
    server.query(f"DROP SCHEMA {evil} CASCADE")


def test_nothing_of_a_schema_that_comes_first_is_run(
    server: Server, log_schema: str, hostile: str, make_broadcaster: MakeBroadcaster, backend_name: str
) -> None:
    dsn = server.dsn(options=f"-csearch_path={hostile},pg_catalog")
    with ListenerConnection(dsn, backend=backend_name) as connection:
        with pytest.raises(Exception, match="hostile"):
            connection.execute("SELECT CAST('a' AS text)", TIMEOUT)  # The trap is set.
        connection.execute(EventLog.sql("events", schema=log_schema), TIMEOUT)
        connection.execute(EventLog.sql("events", schema=log_schema), TIMEOUT)
        log = EventLog("events", make_broadcaster(dsn), schema=log_schema)
        log.append("c", "1", timeout=TIMEOUT)
        with open_connection("psycopg2", server) as opened:
            opened.cursor.execute(f"SET search_path = {hostile}, pg_catalog")
            opened.commit()
            log.append("c", "2", cursor=opened.cursor)
            opened.commit()
            assert (log.position(cursor=opened.cursor), log.position(timeout=TIMEOUT)) == (2, 2)
            opened.rollback()
            for channels in ((), ("c",), ("c", "d")):
                batches = log.consume("mail", opened.connection, *channels)
                assert [entry.payload for entry in next(batches) or ()] == ["1", "2"]
                batches.close()
        for wanted in ("", "c", "cd", "abcdefghijkl"):
            follower = log.follow(*wanted, after=0, timeout=TIMEOUT)
            assert getattr(follower.get(TIMEOUT), "payload", None) == "1"
        assert log.status(timeout=TIMEOUT).entries == 2
        assert log.trim(older_than=0, keep=1, timeout=TIMEOUT) == 1
        connection.execute(drop_sql(LogNames("events", log_schema)), TIMEOUT)
