"""A single connection: lib/pq's own tests of its ListenerConn, and more."""

from __future__ import annotations

import gevent
import pytest

import pglisten
from pglisten import ListenerConnection
from support.fixtures.listeners import MakeConnection, fence
from support.fixtures.servers import Server


def test_listen(connection: ListenerConnection, server: Server) -> None:
    connection.listen("x", timeout=20)
    server.notify("x")
    item = connection.get(timeout=20)
    assert (item.channel, item.payload) == ("x", "")
    assert connection.channels == {"x"}


def test_unlisten(connection: ListenerConnection, server: Server) -> None:
    connection.listen("x", timeout=20)
    connection.listen("other", timeout=20)
    server.notify("x")
    assert connection.get(timeout=20).channel == "x"
    connection.unlisten("x", timeout=20)
    server.notify("x")
    fence(connection, "other")


def test_unlisten_all(connection: ListenerConnection, server: Server) -> None:
    connection.listen("x", timeout=20)
    connection.unlisten_all(timeout=20)
    server.notify("x")
    connection.listen("other", timeout=20)
    fence(connection, "other")


def test_a_channel_is_in_the_set_once_and_only_while_it_is_open(connection: ListenerConnection) -> None:
    connection.listen("x", timeout=20)
    with pytest.raises(pglisten.ChannelAlreadyOpen):
        connection.listen("x", timeout=20)
    connection.unlisten("x", timeout=20)
    with pytest.raises(pglisten.ChannelNotOpen):
        connection.unlisten("x", timeout=20)


def test_close_is_idempotent_and_every_caller_gets_it(connection: ListenerConnection) -> None:
    assert connection.error is None
    connection.close()
    connection.close()
    assert isinstance(connection.error, pglisten.ListenerClosed)
    for call in (
        connection.ping,
        connection.get,
        connection.unlisten_all,
        lambda: connection.execute("select 1"),
    ):
        with pytest.raises(pglisten.ListenerClosed):
            call()
    assert list(connection) == []
    assert connection.closed


def test_ping(connection: ListenerConnection) -> None:
    assert 0 < connection.ping(timeout=20) < 20


def test_close_returns_at_once_while_one_query_runs_and_one_waits(
    connection: ListenerConnection, server: Server
) -> None:
    running = gevent.spawn(connection.execute, "select pg_sleep(60)")
    wait_until_busy(connection, server)
    waiting = gevent.spawn(connection.execute, "select 1")
    gevent.idle()
    with gevent.Timeout(10):
        connection.close()
        gevent.joinall([running, waiting])
    assert isinstance(running.exception, pglisten.ListenerClosed)
    assert isinstance(waiting.exception, pglisten.ListenerClosed)
    # The server notices only when it has an answer that no client waits for it.
    server.terminate(connection.server_pid)


def wait_until_busy(connection: ListenerConnection, server: Server) -> None:
    """Wait until the server runs a query of the connection's."""
    with gevent.Timeout(20):
        while not server.query(
            f"select 1 from pg_stat_activity where pid = {connection.server_pid} and state = 'active'"
        ):
            gevent.idle()


def test_a_query_that_is_refused_leaves_everything_standing(connection: ListenerConnection) -> None:
    connection.listen("x", timeout=20)
    with pytest.raises(pglisten.ServerError) as caught:
        connection.execute("SELECT nonsense FROM nowhere", timeout=20)
    assert (caught.value.sqlstate, caught.value.severity) == ("42P01", "ERROR")
    assert "nowhere" in caught.value.message
    fence(connection, "x")
    assert connection.connected


def test_several_statements_and_their_results_are_fine(connection: ListenerConnection) -> None:
    connection.execute(
        'LISTEN "raw"; SELECT generate_series(1, 1000); NOTIFY "raw", \'one\'; SELECT 1', timeout=20
    )
    assert connection.get(timeout=20).payload == "one"
    connection.execute("", timeout=20)


def test_a_caller_out_of_time_leaves_the_connection_usable_and_no_reply_is_misread(
    connection: ListenerConnection,
) -> None:
    connection.listen("x", timeout=20)
    with pytest.raises(pglisten.OperationTimeout):
        connection.execute("select pg_sleep(0.3)", timeout=0.05)
    with pytest.raises(pglisten.ServerError):
        connection.execute("select 1/0", timeout=20)
    connection.execute("select 1", timeout=20)
    fence(connection, "x")


def test_a_query_whose_caller_has_gone_before_it_began_is_never_run(
    connection: ListenerConnection, server: Server
) -> None:
    connection.listen("x", timeout=20)
    running = gevent.spawn(connection.execute, "select pg_sleep(0.5)")
    wait_until_busy(connection, server)
    gone = gevent.spawn(connection.notify, "x", "never")
    gevent.idle()
    gone.kill()
    running.get(timeout=20)
    fence(connection, "x")


def test_a_ping_behind_a_long_query_proves_nothing(connection: ListenerConnection, server: Server) -> None:
    running = gevent.spawn(connection.execute, "select pg_sleep(0.5)")
    wait_until_busy(connection, server)
    with pytest.raises(pglisten.OperationTimeout):
        connection.ping(timeout=0.05)
    running.get(timeout=20)
    connection.ping(timeout=20)


def test_every_caller_gets_the_first_cause_of_death(connection: ListenerConnection, server: Server) -> None:
    connection.listen("x", timeout=20)
    server.notify("x", "last")
    connection.ping(timeout=20)
    server.terminate(connection.server_pid)
    with pytest.raises(pglisten.ConnectionLost) as caught:
        connection.execute("select pg_sleep(60)", timeout=20)
    assert caught.value.sqlstate == "57P01"
    assert connection.get(timeout=20).payload == "last"
    for call in (connection.get, connection.ping, lambda: connection.listen("y")):
        with pytest.raises(pglisten.ConnectionLost) as later:
            call()
        assert str(later.value) == str(caught.value)
        assert later.value.sqlstate == "57P01"
    connection.close()
    assert isinstance(connection.error, pglisten.ConnectionLost)
    with pytest.raises(pglisten.ConnectionLost):
        list(connection)


def test_a_session_ended_by_its_own_query_says_why(connection: ListenerConnection) -> None:
    with pytest.raises(pglisten.ConnectionLost) as caught:
        connection.execute("select pg_terminate_backend(pg_backend_pid())", timeout=20)
    assert caught.value.sqlstate == "57P01"


def test_what_cannot_be_connected_raises_at_once(make_connection: MakeConnection, server: Server) -> None:
    with pytest.raises(pglisten.ConnectionFailed):
        make_connection("host=127.0.0.1 port=1 user=app")
    with pytest.raises(pglisten.ConnectionFailed) as caught:
        make_connection(server.dsn(dbname="no such database"))
    assert caught.value.sqlstate == "3D000"
    with pytest.raises(pglisten.ConfigurationError):
        make_connection("host=127.0.0.1 nonsense=1")
    with pytest.raises(pglisten.ConnectionFailed, match="does not resolve"):
        make_connection("host=no-such-host.invalid")


def test_what_is_no_statement_is_refused(connection: ListenerConnection) -> None:
    with pytest.raises(ValueError, match="NUL"):
        connection.execute("select 1\0")
    with pytest.raises(TypeError):
        connection.execute(b"select 1")  # type: ignore[arg-type]
    connection.ping(timeout=20)


def test_repr_names_the_session(connection: ListenerConnection) -> None:
    backend, pid = connection.backend, connection.server_pid
    assert repr(connection) == f"<ListenerConnection connected backend={backend} channels=0 server_pid={pid}>"
