"""The controls of the fake server, and the SQL that it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import gevent
import pytest
from gevent.socket import wait_read

from pglisten.backend import ConnInfo, Notification, Session
from pglisten.errors import ConnectionFailed, ConnectionLost, ServerError
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT

STATE = "SELECT pg_is_in_recovery()::text, current_setting('transaction_read_only')"
CONNINFO = ConnInfo({"dbname": "app", "application_name": "web"})


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def session(server: FakeServer) -> Iterator[Session]:
    session = FakeBackend(server).connect(CONNINFO, TIMEOUT)
    yield session
    session.close()


@pytest.fixture
def listening(session: Session) -> Session:
    session.execute("LISTEN orders", TIMEOUT)
    return session


def payloads(session: Session) -> list[str]:
    return [notification.payload for notification in session.receive()]


def test_a_backend_without_a_server_makes_its_own() -> None:
    assert FakeBackend().server is not FakeBackend().server


def test_notify_reaches_those_that_listen(server: FakeServer, listening: Session) -> None:
    server.notify("invoices", "no")
    server.notify("orders", "42", pid=7)
    assert listening.receive() == [Notification(7, "orders", "42")]


def test_queries_are_recorded_one_a_round_trip(server: FakeServer, session: Session) -> None:
    session.execute("LISTEN a; LISTEN b", TIMEOUT)
    session.execute("", TIMEOUT)
    assert server.queries == ["LISTEN a; LISTEN b", ""]


def test_sessions_and_listeners_are_known_by_pid(server: FakeServer, listening: Session) -> None:
    assert server.sessions() == server.sessions("web") == server.listeners("orders") == {listening.pid}
    assert server.sessions("worker") == server.listeners("invoices") == frozenset()
    listening.close()
    assert server.sessions() == server.listeners("orders") == frozenset()


def test_one_can_wait_until_a_session_listens(server: FakeServer, session: Session) -> None:
    with pytest.raises(TimeoutError, match="'orders'"):
        server.wait_listened("orders", 0.01)
    waiting = gevent.spawn(server.wait_listened, "orders", TIMEOUT)
    session.execute("LISTEN others", TIMEOUT)
    session.execute("LISTEN orders", TIMEOUT)
    waiting.get(timeout=TIMEOUT)
    server.wait_listened("orders", 0)


def test_a_cut_has_no_reason(server: FakeServer, listening: Session) -> None:
    server.notify("orders", "before")
    server.cut()
    assert payloads(listening) == ["before"]
    with pytest.raises(ConnectionLost, match="unexpectedly") as caught:
        listening.receive()
    assert caught.value.sqlstate is None


def test_terminate_says_whether_there_was_a_session(server: FakeServer, session: Session) -> None:
    assert server.terminate(session.pid)
    assert not server.terminate(session.pid)


def test_a_stopped_server_refuses_until_it_starts(server: FakeServer, session: Session) -> None:
    server.stop()
    with pytest.raises(ConnectionLost) as caught:
        session.receive()
    assert caught.value.sqlstate == "57P01"
    backend = FakeBackend(server)
    with pytest.raises(ConnectionFailed, match="refused"):
        backend.connect(CONNINFO, TIMEOUT)
    server.start()
    backend.connect(CONNINFO, TIMEOUT).close()


def test_refusals_are_what_the_test_says(server: FakeServer) -> None:
    server.refuse = ConnectionFailed("sorry, too many clients already", sqlstate="53300")
    with pytest.raises(ConnectionFailed) as caught:
        FakeBackend(server).connect(CONNINFO, TIMEOUT)
    assert caught.value.sqlstate == "53300"
    assert caught.value is not server.refuse


def test_a_channel_can_be_refused(server: FakeServer, session: Session) -> None:
    server.refuse_listen["bad"] = ServerError("could not access status of transaction", sqlstate="58P01")
    with pytest.raises(ServerError) as caught:
        session.execute("LISTEN good; LISTEN bad", TIMEOUT)
    assert caught.value.sqlstate == "58P01"
    assert server.listeners("good") == frozenset()
    session.execute("LISTEN good", TIMEOUT)


def test_a_frozen_server_keeps_notifications_until_it_thaws(server: FakeServer, listening: Session) -> None:
    server.freeze()
    server.notify("orders", "kept")
    assert listening.receive() == []
    server.thaw()
    assert payloads(listening) == ["kept"]


def test_a_frozen_server_answers_queries_when_it_thaws(server: FakeServer, listening: Session) -> None:
    server.freeze()
    query = gevent.spawn(listening.execute, "NOTIFY orders, 'own'", TIMEOUT)
    gevent.sleep(0)
    server.notify("orders", "first")
    assert not query.ready()
    server.thaw()
    query.get(timeout=TIMEOUT)
    assert payloads(listening) == ["first", "own"]


def test_a_query_at_a_frozen_server_ends_with_its_session(server: FakeServer, session: Session) -> None:
    server.freeze()
    query = gevent.spawn(session.execute, "SELECT 1", None)
    gevent.sleep(0)
    server.cut()
    with pytest.raises(ConnectionLost):
        query.get(timeout=TIMEOUT)


def test_a_busy_session_gets_notifications_with_its_reply(server: FakeServer, listening: Session) -> None:
    query = gevent.spawn(listening.execute, "SELECT pg_sleep(0.05)", TIMEOUT)
    gevent.sleep(0)
    server.notify("orders", "meanwhile")
    query.get(timeout=TIMEOUT)
    with pytest.raises(TimeoutError):
        # As with a driver that read both at once: only who asks will know.
        wait_read(listening.fileno(), 0.01)
    assert payloads(listening) == ["meanwhile"]


def test_a_standby_refuses_listen_and_notify_until_it_is_promoted() -> None:
    server = FakeServer(in_recovery=True)
    with closing(FakeBackend(server).connect(CONNINFO, TIMEOUT)) as session:
        for sql in ("LISTEN a", "NOTIFY a", "SELECT pg_notify('a', '')"):
            with pytest.raises(ServerError, match="during recovery") as caught:
                session.execute(sql, TIMEOUT)
            assert caught.value.sqlstate == "25006"
        session.execute("UNLISTEN a; UNLISTEN *", TIMEOUT)
        assert session.fetch(STATE, TIMEOUT) == [("true", "on")]
        server.in_recovery = False
        assert session.fetch(STATE, TIMEOUT) == [("false", "off")]
        session.execute("LISTEN a; NOTIFY a, 'promoted'", TIMEOUT)
        assert payloads(session) == ["promoted"]


def test_a_read_only_server_listens_and_notifies() -> None:
    server = FakeServer(read_only=True)
    with closing(FakeBackend(server).connect(CONNINFO, TIMEOUT)) as session:
        assert session.fetch(STATE, TIMEOUT) == [("false", "on")]
        session.execute("LISTEN a; NOTIFY a, 'x'", TIMEOUT)
        assert payloads(session) == ["x"]


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("BEGIN", "0A000"),
        ("SET x = 1", "0A000"),
        ("LISTEN", "42601"),
        ('LISTEN ""', "42601"),
        ("LISTEN 'x'", "42601"),
        ("LISTEN a b", "42601"),
        ("NOTIFY a, b", "42601"),
        ("NOTIFY a, 'unterminated", "42601"),
        ("SELECT 1 /* unterminated", "42601"),
        ("SELECT", "42601"),
        ("SELECT version()", "42883"),
        ("SELECT x", "42601"),
        ("SELECT 1 WHERE 1", "42601"),
        ("VALUES 1", "42601"),
        ("SHOW no_such_setting", "42704"),
        ("SELECT current_setting('no.such', false)", "42883"),
        ("SELECT pg_notify('a')", "42883"),
        ("LISTEN ok; LISTEN", "42601"),
    ],
)
def test_sql_that_it_does_not_know_is_an_error(
    server: FakeServer, session: Session, sql: str, sqlstate: str
) -> None:
    with pytest.raises(ServerError) as caught:
        session.execute(sql, TIMEOUT)
    assert caught.value.sqlstate == sqlstate
    assert server.listeners("ok") == frozenset()


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("Orders", "orders"),
        ('"Orders"', "Orders"),
        ('"a ""quoted"" one"', 'a "quoted" one'),
        ("_x$1", "_x$1"),
        ("größe", "größe"),
        ('"' + "é" * 40 + '"', "é" * 31),
    ],
)
def test_names_are_folded_unquoted_and_cut_like_postgresqls(
    server: FakeServer, session: Session, name: str, channel: str
) -> None:
    session.execute(f"LISTEN {name} /* a /* nested */ comment */ -- and another\n;", TIMEOUT)
    assert server.listeners(channel) == {session.pid}
