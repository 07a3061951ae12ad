"""Poolers that acknowledge LISTEN and do not listen: the connection is lost, and the error says why."""

from __future__ import annotations

import gevent
import pytest

import pglisten
from pglisten import Listener
from pglisten._sql import LISTENING_QUERY
from support.fixtures.listeners import Events, MakeConnection, MakeListener
from support.fixtures.odyssey import StartOdyssey
from support.fixtures.pgbouncer import StartPgBouncer
from support.fixtures.poolers import Imitate
from support.servers.poolers import BusyPgBouncerLike, OdysseyLike, PgBouncerLike, PgDogLike
from support.servers.server import Server
from support.timeouts import TIMEOUT

REMEDY = "remedy: connect to PostgreSQL itself, or through a pool in session mode"


def fails_to_come_back(listener: Listener, events: Events) -> str:
    """Listen to a channel; return the reason why the connection was lost, and no new one counts as made."""
    caller = gevent.spawn(listener.listen, "x", TIMEOUT)
    events.wait_for("CONNECTED", "DISCONNECTED", "CONNECTION_ATTEMPT_FAILED")
    caller.kill()
    (_, lost), (_, failed) = events[-2:]
    assert isinstance(lost, pglisten.ConnectionLost)
    assert isinstance(failed, pglisten.ConnectionFailed)
    assert REMEDY in str(lost)
    assert REMEDY in str(failed)
    listener.close()
    return str(lost)


def impatient(make_listener: MakeListener, dsn: str) -> tuple[Listener, Events]:
    events = Events()
    listener = make_listener(
        dsn,
        heartbeat_interval=0.05,
        heartbeat_timeout=5.0,
        max_reconnect_interval=3600,
        event_callback=events,
    )
    listener.wait_connected(TIMEOUT)
    return listener, events


class TestPgDog:
    """It runs the first statement of a query."""

    def test_the_connection_of_a_listener_is_lost(
        self, make_listener: MakeListener, imitate: Imitate
    ) -> None:
        listener, events = impatient(make_listener, imitate(PgDogLike).dsn())
        assert "ends before its last statement" in fails_to_come_back(listener, events)

    def test_a_connection_that_is_not_replaced_raises_it(
        self, make_connection: MakeConnection, imitate: Imitate
    ) -> None:
        connection = make_connection(imitate(PgDogLike).dsn())
        with pytest.raises(pglisten.ConnectionLost, match=f"PgDog.*{REMEDY}"):
            connection.listen("x", timeout=TIMEOUT)
        assert connection.closed

    def test_a_listener_that_only_sends_is_left_alone(
        self, make_listener: MakeListener, imitate: Imitate
    ) -> None:
        listener, events = impatient(make_listener, imitate(PgDogLike).dsn())
        pinged = listener.stats().last_ping
        with gevent.Timeout(TIMEOUT):
            while listener.stats().last_ping == pinged:
                gevent.sleep(0.01)
        listener.notify("x", "sent", timeout=TIMEOUT)
        assert events.names == ["CONNECTED"]


class TestOdyssey:
    """LISTEN ends with the transaction."""

    def test_a_heartbeat_finds_it_and_a_new_connection_does_at_once(
        self, make_listener: MakeListener, imitate: Imitate
    ) -> None:
        listener, events = impatient(make_listener, imitate(OdysseyLike).dsn())
        reason = fails_to_come_back(listener, events)
        assert reason.startswith("heartbeat failed: the server listens to 0 of 1 acknowledged channels")
        assert not str(events[-1][1]).startswith("heartbeat")


class TestPgBouncer:
    """LISTEN stays in a session of the pool, and the next transaction may run in another."""

    def test_another_session_answers(self, make_listener: MakeListener, imitate: Imitate) -> None:
        listener, events = impatient(make_listener, imitate(BusyPgBouncerLike).dsn())
        caller = gevent.spawn(listener.listen, "x", TIMEOUT)
        events.wait_for("CONNECTED", "DISCONNECTED")
        caller.kill()
        assert REMEDY in str(events[-1][1])

    def test_while_the_same_session_answers_a_heartbeat_cannot_tell(
        self, make_listener: MakeListener, imitate: Imitate
    ) -> None:
        pooler = imitate(PgBouncerLike)
        listener, events = impatient(make_listener, pooler.dsn())
        listener.listen("x", timeout=TIMEOUT)
        asked = pooler.queries.count(LISTENING_QUERY.encode())
        with gevent.Timeout(TIMEOUT):
            while pooler.queries.count(LISTENING_QUERY.encode()) < asked + 3:
                gevent.sleep(0.01)
        assert events.names == ["CONNECTED"]


@pytest.mark.slow
class TestPrograms:
    """The poolers themselves."""

    def test_pgbouncer_that_resets_after_each_transaction(
        self, make_listener: MakeListener, pgbouncer: StartPgBouncer
    ) -> None:
        pooler = pgbouncer("transaction", more="server_reset_query_always = 1\n")
        listener, events = impatient(make_listener, pooler.dsn())
        assert "listens to 0 of 1" in fails_to_come_back(listener, events)

    def test_odyssey_in_transaction_mode(self, make_listener: MakeListener, odyssey: StartOdyssey) -> None:
        listener, events = impatient(make_listener, odyssey("transaction").dsn())
        assert "listens to 0 of 1" in fails_to_come_back(listener, events)

    @pytest.mark.parametrize(
        ("mode", "more"),
        [("session", ""), ("transaction", "pool_discard no\npool_smart_discard no\npool_pin_on_listen yes")],
    )
    def test_odyssey_that_keeps_the_session(
        self, make_listener: MakeListener, odyssey: StartOdyssey, server: Server, mode: str, more: str
    ) -> None:
        listener, events = impatient(make_listener, odyssey(mode, more=more).dsn())
        for number in range(20):
            listener.listen(f"channel {number}", timeout=TIMEOUT)
            server.notify(f"channel {number}", "from another session")
            assert listener.get(timeout=TIMEOUT).channel == f"channel {number}"
        assert events.names == ["CONNECTED"]
