"""What `Session.fetch` promises."""

from __future__ import annotations

import time

import gevent
import pytest

from ..._sql import LISTENING_QUERY, UNLISTEN_ALL, sync_statement
from ...backend import MAX_RESULT, Notification, Session
from ...errors import ConnectionLost, ServerError
from ._fixtures import Connect, ContractFixtures
from ._observing import (
    PATIENCE,
    SHORT,
    Ticker,
    at_server,
    background,
    drain,
    every_descriptor_returned,
    listen,
    notify,
    until_lost,
    wait_readable,
    wait_until,
)

__all__ = ["FetchContract"]

_LONG = "SELECT pg_sleep(60)::text"  # longer than any test waits


class FetchContract(ContractFixtures):
    """Queries that return rows."""

    def test_rows_are_tuples_of_text_in_the_servers_order(self, session: Session) -> None:
        rows = session.fetch("VALUES ('a', 1::text), ('b', 22::text), ('', 333::text)", PATIENCE)
        assert rows == [("a", "1"), ("b", "22"), ("", "333")]
        assert {type(value) for row in rows for value in row} == {str}
        assert {type(row) for row in rows} == {tuple}

    def test_null_is_none_and_not_the_empty_string(self, session: Session) -> None:
        assert session.fetch("SELECT NULL::text, '', NULL::text", PATIENCE) == [(None, "", None)]

    @pytest.mark.parametrize("text", ["é", "żółw 🐢 שלום", "\U0010ffff", "back\\slash %s", " two\nlines\t"])
    def test_any_text_is_returned_as_it_is(self, session: Session, text: str) -> None:
        assert session.fetch(f"SELECT '{text}'", PATIENCE) == [(text,)]

    def test_of_several_statements_the_last_ones_rows_are_returned(
        self, session: Session, channel: str
    ) -> None:
        assert session.fetch("SELECT 'first', 'of two'; VALUES ('last'), ('of all')", PATIENCE) == [
            ("last",),
            ("of all",),
        ]
        assert session.fetch(f"SELECT 'first'; LISTEN {channel}; SELECT 'last';", PATIENCE) == [("last",)]
        assert session.fetch(f"SELECT 'first'; UNLISTEN {channel}", PATIENCE) == []

    def test_the_channels_of_the_session_can_be_counted(self, session: Session, channel: str) -> None:
        assert len(session.fetch(sync_statement([channel, f"{channel}_2"], []), PATIENCE)) == 1
        assert session.fetch(LISTENING_QUERY, PATIENCE)[0][1] == "2"
        assert len(session.fetch(UNLISTEN_ALL, PATIENCE)) == 1
        assert session.fetch(LISTENING_QUERY, PATIENCE)[0][1] == "0"

    def test_a_result_without_rows_is_empty(self, session: Session) -> None:
        assert session.fetch("SELECT 'x' WHERE false", PATIENCE) == []
        assert session.fetch("SELECT 'x'; SELECT 'y' WHERE false", PATIENCE) == []

    @pytest.mark.parametrize("sql", ["", ";", "-- nothing", "UNLISTEN *"])
    def test_what_returns_no_rows_gives_none(self, session: Session, sql: str) -> None:
        assert session.fetch("SELECT 'before'", PATIENCE) == [("before",)]
        assert session.fetch(sql, PATIENCE) == []
        session.execute("SELECT 'discarded'", PATIENCE)
        assert session.fetch(sql, PATIENCE) == []

    def test_the_servers_state_can_be_asked_for(self, session: Session) -> None:
        ((pid, in_recovery, read_only, usage, encoding),) = session.fetch(
            "SELECT pg_backend_pid()::text, pg_catalog.pg_is_in_recovery()::pg_catalog.text,"
            " pg_catalog.current_setting('transaction_read_only'),"
            " pg_notification_queue_usage()::text, current_setting('client_encoding', true)",
            PATIENCE,
        )
        assert (pid, in_recovery, read_only) == (str(session.pid), "false", "off")
        assert float(usage or "x") >= 0
        assert session.fetch("SHOW client_encoding", PATIENCE) == [(encoding,)] == [("UTF8",)]
        assert session.fetch("SELECT current_setting('pglisten.unset', true)", PATIENCE) == [(None,)]

    def test_a_refused_query_raises_the_servers_error_and_the_session_goes_on(self, session: Session) -> None:
        for _ in range(2):
            with pytest.raises(ServerError) as caught:
                session.fetch("SELECT 'x'; SELECT pg_notify('', 'x')", PATIENCE)
            assert caught.value.sqlstate == "22023"
            assert session.fetch("SELECT 'fine'", PATIENCE) == [("fine",)]

    def test_what_a_session_sends_itself_comes_along_and_is_received(
        self, session: Session, channel: str
    ) -> None:
        rows = session.fetch(
            f"LISTEN {channel}; NOTIFY {channel}, 'a'; SELECT pg_notify('{channel}', 'b'), 'row'", PATIENCE
        )
        assert rows == [("", "row")]
        # Not waited for: it came with the reply, and the descriptor may never be readable again.
        assert drain(session) == [Notification(session.pid, channel, payload) for payload in "ab"]

    def test_what_had_arrived_before_is_received(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "before")
        wait_readable(session)
        assert session.fetch("SELECT 'row'", PATIENCE) == [("row",)]
        assert drain(session) == [Notification(other.pid, channel, "before")]

    def test_rows_close_to_the_limit_are_returned(self, session: Session) -> None:
        size = MAX_RESULT - 100
        assert session.fetch(f"SELECT repeat('x', {size})", PATIENCE) == [("x" * size,)]
        assert session.fetch("SELECT 'after'", PATIENCE) == [("after",)]

    @pytest.mark.parametrize(
        "sql",
        [
            f"SELECT repeat('x', {MAX_RESULT})",
            f"SELECT repeat('x', {MAX_RESULT // 2}), repeat('y', {MAX_RESULT // 2})",
            f"VALUES (repeat('x', {MAX_RESULT // 2})), (repeat('y', {MAX_RESULT // 2}))",
        ],
        ids=["value", "row", "rows"],
    )
    def test_rows_over_the_limit_lose_the_connection(
        self, session: Session, other: Session, channel: str, sql: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "before")
        wait_readable(session)
        with pytest.raises(ConnectionLost, match=str(MAX_RESULT)) as caught:
            session.fetch(sql, PATIENCE)
        assert caught.value.sqlstate is None
        received, _ = until_lost(session)
        assert received == [Notification(other.pid, channel, "before")]
        with pytest.raises(ConnectionLost, match=str(MAX_RESULT)):
            session.fetch("SELECT 'x'", PATIENCE)
        session.close()
        wait_until(lambda: not at_server(other, session), "the server ends the session")

    def test_rows_that_are_discarded_have_no_limit(self, session: Session) -> None:
        session.execute(f"SELECT repeat('x', {2 * MAX_RESULT})", PATIENCE)
        assert session.fetch("SELECT 'after'", PATIENCE) == [("after",)]

    def test_rows_without_an_end_in_time_lose_the_connection_and_the_hub_runs(
        self, session: Session, other: Session
    ) -> None:
        started = time.monotonic()
        with Ticker() as ticker, pytest.raises(ConnectionLost) as caught:
            session.fetch(_LONG, SHORT)
        assert SHORT * 0.9 <= time.monotonic() - started < SHORT + 5
        ticker.assert_ran(SHORT)
        assert caught.value.sqlstate is None
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                session.fetch("SELECT 'x'", PATIENCE)
        _end(other, session)

    def test_a_session_that_is_terminated_says_why(self, session: Session, other: Session) -> None:
        _end(other, session)
        wait_readable(session)
        with pytest.raises(ConnectionLost) as caught:
            session.fetch("SELECT 'x'", PATIENCE)
        assert caught.value.sqlstate == "57P01"

    def test_a_killed_query_leaves_a_session_that_closes(self, connect: Connect, other: Session) -> None:
        connect().close()  # whatever a first connection opens for good
        with every_descriptor_returned():
            session = connect()
            running = background(session.fetch, _LONG, None)
            gevent.sleep(0)  # the hub's turn in which it starts
            running.kill(timeout=PATIENCE)
            assert running.dead
            session.close()
        _end(other, session)

    def test_after_close_it_raises(self, session: Session) -> None:
        session.close()
        with pytest.raises(ConnectionLost):
            session.fetch("SELECT 'x'", PATIENCE)


def _end(other: Session, session: Session) -> None:
    """End *session* at the server, which would otherwise continue to sleep without a client."""
    other.execute(f"SELECT pg_terminate_backend({session.pid})", PATIENCE)
