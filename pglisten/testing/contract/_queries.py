"""What `Session.execute` promises."""

from __future__ import annotations

import time

import gevent
import pytest

from ...backend import Notification, Session
from ...errors import ConnectionLost, ServerError
from ._fixtures import Connect, ContractFixtures
from ._observing import (
    PATIENCE,
    SHORT,
    Ticker,
    answer,
    background,
    drain,
    every_descriptor_returned,
    listen,
    notify,
    wait_readable,
)

__all__ = ["QueryContract"]

_LONG = "SELECT pg_sleep(60)"  # longer than any test waits


def _end(other: Session, session: Session) -> None:
    """End *session* at the server, which would otherwise continue to sleep without a client."""
    other.execute(f"SELECT pg_terminate_backend({session.pid})", PATIENCE)


class QueryContract(ContractFixtures):
    """Queries: what runs, what is refused, what cannot be completed."""

    @pytest.mark.parametrize(
        "sql", ["SELECT 1", "SELECT 1;", "SELECT 'ü''', 2", "SELECT 1; SELECT 2; SELECT 3"]
    )
    def test_a_query_returns_when_the_server_is_ready_again(self, session: Session, sql: str) -> None:
        session.execute(sql, PATIENCE)
        session.execute(sql, None)

    @pytest.mark.parametrize("sql", ["", " \n", ";", ";;", "-- nothing", "/* nothing /* nested */ */"])
    def test_an_empty_query_is_a_round_trip(self, session: Session, sql: str) -> None:
        session.execute(sql, PATIENCE)
        session.execute("SELECT 1", PATIENCE)

    def test_percent_signs_and_backslashes_pass_as_they_are(self, session: Session, channel: str) -> None:
        payload = r"100% %s %(name)s :name $1 \n \'"
        listen(session, channel)
        notify(session, channel, payload)
        assert drain(session) == [Notification(session.pid, channel, payload)]

    def test_a_refused_query_raises_the_servers_error(self, session: Session) -> None:
        with pytest.raises(ServerError) as caught:
            session.execute("SELEC 1", PATIENCE)
        error = caught.value
        assert (error.severity, error.sqlstate) == ("ERROR", "42601")
        assert 'syntax error at or near "SELEC"' in error.message
        assert "\n" not in error.message
        assert error.detail is None

    def test_a_session_is_usable_after_a_refused_query(self, session: Session) -> None:
        for _ in range(3):
            with pytest.raises(ServerError):
                session.execute("SELECT pglisten_no_such_function()", PATIENCE)
            assert answer(session, "'fine'") == "fine"

    def test_a_refused_statement_undoes_the_others_of_its_query(self, session: Session, channel: str) -> None:
        with pytest.raises(ServerError) as caught:
            session.execute(f"LISTEN {channel}; SELECT pg_notify('', 'x')", PATIENCE)
        assert caught.value.sqlstate == "22023"
        notify(session, channel, "no session listens")
        listen(session, channel)
        notify(session, channel, "fence")
        assert [notification.payload for notification in drain(session)] == ["fence"]

    def test_every_query_is_a_transaction_of_its_own(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        with pytest.raises(ServerError):
            session.execute("SELECT pg_notify('', 'x')", PATIENCE)
        notify(other, channel, "committed")
        assert answer(session, "'and'") == "and"

    def test_one_query_may_hold_a_thousand_statements(
        self, session: Session, other: Session, channel: str
    ) -> None:
        names = [f"{channel}_{number}" for number in range(1_000)]
        listen(session, *names)
        for name in (names[0], names[-1]):
            notify(session, name)
        assert [notification.channel for notification in drain(session)] == [names[0], names[-1]]
        session.execute("UNLISTEN *", PATIENCE)
        notify(session, names[0])
        assert drain(session) == []

    def test_a_query_without_an_end_in_time_loses_the_connection(
        self, session: Session, other: Session
    ) -> None:
        started = time.monotonic()
        with pytest.raises(ConnectionLost) as caught:
            session.execute(_LONG, SHORT)
        elapsed = time.monotonic() - started
        _end(other, session)
        assert caught.value.sqlstate is None
        assert SHORT * 0.9 <= elapsed < SHORT + 5

    def test_what_had_arrived_is_received_after_a_query_timed_out(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "before")
        wait_readable(session)
        with pytest.raises(ConnectionLost):
            session.execute(_LONG, SHORT)
        _end(other, session)
        assert session.receive() == [Notification(other.pid, channel, "before")]

    def test_after_a_loss_every_query_raises_it_again(self, session: Session, other: Session) -> None:
        with pytest.raises(ConnectionLost):
            session.execute(_LONG, SHORT)
        _end(other, session)
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                session.execute("SELECT 1", PATIENCE)

    def test_the_hub_runs_during_a_query(self, session: Session) -> None:
        with Ticker() as ticker:
            session.execute("SELECT pg_sleep(0.5)", PATIENCE)
        ticker.assert_ran(0.5)

    def test_sessions_run_queries_side_by_side(self, session: Session, other: Session) -> None:
        started = time.monotonic()
        running = [background(each.execute, "SELECT pg_sleep(1)", PATIENCE) for each in (session, other)]
        gevent.joinall(running, timeout=PATIENCE, raise_error=True)
        assert all(greenlet.ready() for greenlet in running)
        assert time.monotonic() - started < 1.9

    def test_a_killed_query_leaves_a_session_that_closes(self, connect: Connect, other: Session) -> None:
        connect().close()  # whatever a first connection opens for good
        with every_descriptor_returned():
            session = connect()
            running = background(session.execute, _LONG, None)
            gevent.sleep(0)  # the hub's turn in which it starts
            running.kill(timeout=PATIENCE)
            assert running.dead
            session.close()
        _end(other, session)

    def test_a_timeout_of_the_callers_own_passes_through(self, session: Session, other: Session) -> None:
        with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(SHORT) as mine:
            session.execute(_LONG, PATIENCE)
        assert caught.value is mine
        session.close()
        _end(other, session)
