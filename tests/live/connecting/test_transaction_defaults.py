"""Roles whose transactions wait for a snapshot or are refused one: the library's queries still run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import gevent
import pytest

import pglisten
from pglisten import ListenerConnection
from pglisten._sql import READ_COMMITTED, TRIM_QUEUE, names_query
from support.fixtures.listeners import MakeConnection, MakeListener, fence
from support.fixtures.pgbouncer import StartPgBouncer
from support.fixtures.proxy import MakeProxy
from support.fixtures.standby import StandbyPair
from support.servers.server import Server
from support.timeouts import TIMEOUT

SHORT = 0.2
SERIALIZABLE = "-c default_transaction_isolation=serializable"
DEFERRABLE = f"{SERIALIZABLE} -c default_transaction_read_only=on -c default_transaction_deferrable=on"


@contextlib.contextmanager
def writer(connection: ListenerConnection) -> Iterator[None]:
    """A serializable transaction that may write. Deferrable ones wait until it has ended."""
    connection.execute("BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; SELECT 1", TIMEOUT)
    yield
    connection.execute("ROLLBACK", TIMEOUT)


def test_a_deferrable_role_is_pinged_while_a_writer_holds_up_its_queries(
    make_listener: MakeListener, connection: ListenerConnection, server: Server
) -> None:
    listener = make_listener(server.dsn(options=DEFERRABLE), heartbeat_interval=0.05, heartbeat_timeout=5.0)
    listener.listen("x", timeout=TIMEOUT)
    listener.wait_connected(TIMEOUT)
    with writer(connection):
        assert listener.ping(timeout=TIMEOUT) < TIMEOUT
        pinged = listener.stats().last_ping
        with gevent.Timeout(TIMEOUT):
            while listener.stats().last_ping == pinged:  # Until the heartbeat's ping is answered too.
                gevent.sleep(0.01)
        assert listener.stats().reconnects == listener.stats().failed_attempts == 0
    fence(listener, "x")


def test_with_deferrable_off_in_the_connection_string_notifications_come_meanwhile(
    make_listener: MakeListener, connection: ListenerConnection, server: Server
) -> None:
    listener = make_listener(server.dsn(options=f"{DEFERRABLE} -c default_transaction_deferrable=off"))
    with writer(connection):
        listener.listen("x", timeout=TIMEOUT)
        server.notify("x", "from another session")
        item = listener.get(timeout=TIMEOUT)
        assert item is not None
        assert item.payload == "from another session"


def test_the_librarys_own_questions_do_not_wait_for_the_writer(
    make_connection: MakeConnection, connection: ListenerConnection, server: Server
) -> None:
    with writer(connection):
        deferrable = make_connection(server.dsn(options=DEFERRABLE), connect_timeout=TIMEOUT)
        for sql in (TRIM_QUEUE, names_query(["é"])):
            deferrable.execute(sql, timeout=TIMEOUT)
        # Without READ COMMITTED the statement waits, as any query does.
        with pytest.raises(pglisten.OperationTimeout):
            deferrable.execute(TRIM_QUEUE.removeprefix(READ_COMMITTED), timeout=SHORT)


def test_a_lost_connection_is_found_by_a_ping(
    make_connection: MakeConnection, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    connection = make_connection(server.dsn(host=between.host, port=between.port))
    assert connection.ping(timeout=TIMEOUT) < TIMEOUT
    # An error in a failed transaction is an answer too.
    with pytest.raises(pglisten.ServerError):
        connection.execute("BEGIN; SELECT 1/0", timeout=TIMEOUT)
    connection.ping(timeout=TIMEOUT)
    between.drop()
    with pytest.raises(pglisten.OperationTimeout):
        connection.ping(timeout=SHORT)
    with pytest.raises(pglisten.ConnectionLost):
        connection.get(timeout=TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize("pool_mode", ["session", "transaction"])
def test_a_pooler_passes_pings_and_questions_on(
    make_connection: MakeConnection, pgbouncer: StartPgBouncer, pool_mode: str
) -> None:
    pooler = pgbouncer(pool_mode)
    connection = make_connection(pooler.dsn())
    assert connection.ping(timeout=TIMEOUT) < TIMEOUT
    connection.execute(TRIM_QUEUE, timeout=TIMEOUT)
    pooler.kill()
    with pytest.raises(pglisten.ConnectionLost):
        connection.ping(timeout=TIMEOUT)


@pytest.mark.slow
def test_a_standby_refuses_serializable_transactions_and_still_says_that_it_is_one(
    make_connection: MakeConnection, standby_pair: StandbyPair
) -> None:
    dsn = standby_pair.standby.dsn(options=SERIALIZABLE, target_session_attrs="standby")
    connection = make_connection(dsn)
    with pytest.raises(pglisten.ServerError, match="serializable"):
        connection.execute("SELECT 1", timeout=TIMEOUT)
    assert connection.ping(timeout=TIMEOUT) < TIMEOUT
