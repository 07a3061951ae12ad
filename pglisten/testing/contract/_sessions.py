"""What `Backend.connect` promises, and how a session ends."""

from __future__ import annotations

import os
import secrets
import time

import gevent
import pytest

from ...backend import Backend, ConnInfo, Notification, Session
from ...errors import ConnectionFailed, ConnectionLost, ServerError
from ._fixtures import Connect, ContractFixtures
from ._forking import in_a_forked_child
from ._observing import (
    PATIENCE,
    SHORT,
    Ticker,
    answer,
    at_server,
    background,
    connect_to,
    drain,
    every_descriptor_returned,
    listen,
    notify,
    until_lost,
    wait_for_notifications,
    wait_readable,
    wait_until,
)

__all__ = ["ConnectContract", "EndContract"]

_TERMINATED = "terminating connection due to administrator command"


class ConnectContract(ContractFixtures):
    """Attempts to connect: those that succeed and those that fail."""

    def test_a_backend_has_a_name(self, backend: Backend) -> None:
        assert backend.name
        assert isinstance(backend.name, str)

    def test_check_accepts_what_connect_accepts(self, backend: Backend, conninfo: ConnInfo) -> None:
        backend.check(conninfo)

    def test_the_pid_is_the_server_processs(self, session: Session) -> None:
        assert answer(session, "pg_backend_pid()::text") == str(session.pid)

    def test_every_session_has_a_pid_and_a_descriptor_of_its_own(
        self, session: Session, other: Session
    ) -> None:
        assert session.pid != other.pid
        assert session.fileno() != other.fileno()

    def test_the_descriptor_stays_the_same(self, session: Session, channel: str) -> None:
        before = session.fileno()
        listen(session, channel)
        notify(session, channel)
        drain(session)
        with pytest.raises(ServerError):
            session.execute("SELEC", PATIENCE)
        assert session.fileno() == before

    def test_the_descriptor_is_readable_when_something_comes(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        assert drain(session) == []
        waiting = background(wait_readable, session)
        notify(other, channel)
        waiting.get(timeout=PATIENCE)
        assert len(wait_for_notifications(session, 1)) == 1

    def test_the_application_name_is_the_one_asked_for(self, connect: Connect, conninfo: ConnInfo) -> None:
        session = connect(ConnInfo({**conninfo.values(), "application_name": 'the contract\'s \\ "suite"'}))
        assert answer(session, "current_setting('application_name')") == 'the contract\'s \\ "suite"'

    def test_no_timeout_is_no_limit(self, backend: Backend, conninfo: ConnInfo) -> None:
        session = connect_to(backend, conninfo, None)
        session.close()

    def test_a_database_that_does_not_exist_is_3d000(self, backend: Backend, conninfo: ConnInfo) -> None:
        nowhere = ConnInfo({**conninfo.values(), "dbname": "pglisten_no_such_database"})
        connect_to(backend, conninfo).close()
        with every_descriptor_returned(), pytest.raises(ConnectionFailed) as caught:
            connect_to(backend, nowhere)
        assert caught.value.sqlstate == "3D000"
        assert "pglisten_no_such_database" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_refused_connection_fails_at_once(self, backend: Backend, refusing: ConnInfo) -> None:
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(ConnectionFailed) as caught:
                backend.connect(refusing, PATIENCE)
            assert caught.value.sqlstate is None
        assert time.monotonic() - started < PATIENCE / 2

    def test_a_refused_connection_leaves_no_descriptor(self, backend: Backend, refusing: ConnInfo) -> None:
        def attempt() -> None:
            with pytest.raises(ConnectionFailed):
                backend.connect(refusing, PATIENCE)

        attempt()  # the first may open what the process keeps
        with every_descriptor_returned():
            attempt()

    def test_a_silent_server_fails_in_time_and_the_hub_runs(self, backend: Backend, silent: ConnInfo) -> None:
        started = time.monotonic()
        with Ticker() as ticker, pytest.raises(ConnectionFailed) as caught:
            backend.connect(silent, SHORT)
        assert SHORT * 0.9 <= time.monotonic() - started < SHORT + 5
        ticker.assert_ran(SHORT)
        assert caught.value.sqlstate is None

    def test_a_connect_that_ends_early_leaves_no_descriptor(self, backend: Backend, silent: ConnInfo) -> None:
        with pytest.raises(ConnectionFailed):
            backend.connect(silent, SHORT)
        with every_descriptor_returned():
            with pytest.raises(ConnectionFailed):
                backend.connect(silent, SHORT)
            connecting = background(backend.connect, silent, None)
            gevent.sleep(0.05)  # not synchronisation: the kill may hit any moment of the attempt
            connecting.kill(timeout=PATIENCE)
            assert connecting.dead
            with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(SHORT) as mine:
                backend.connect(silent, None)
            assert caught.value is mine

    def test_a_password_is_in_no_message(
        self, backend: Backend, refusing: ConnInfo, silent: ConnInfo, conninfo: ConnInfo
    ) -> None:
        secret = f"s3cret-{secrets.token_hex(4)}"
        nowhere = ConnInfo({**conninfo.values(), "dbname": "pglisten_no_such_database"})
        for target in (refusing, silent, nowhere):
            with pytest.raises(ConnectionFailed) as caught:
                connect_to(backend, ConnInfo({**target.values(), "password": secret}), SHORT)
            error: BaseException | None = caught.value
            while error is not None:
                assert secret not in f"{error} {error!r}"
                error = error.__cause__ or error.__context__


class EndContract(ContractFixtures):
    """Sessions that the server ends, that are closed, and that a forked child drops."""

    def _terminate(self, other: Session, session: Session) -> None:
        other.execute(f"SELECT pg_terminate_backend({session.pid})", PATIENCE)

    def test_an_idle_session_that_is_terminated_says_why(self, session: Session, other: Session) -> None:
        self._terminate(other, session)
        received, error = until_lost(session)
        assert received == []
        assert error.sqlstate == "57P01"
        assert _TERMINATED in str(error)
        assert "\n" not in str(error)

    def test_what_arrived_before_the_end_is_received_first(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, *map(str, range(100)))  # One write by the server (8 kB): all or none.
        wait_readable(session)
        assert at_server(other, session)
        self._terminate(other, session)
        wait_until(lambda: not at_server(other, session), "the server ends the session")
        received, error = until_lost(session)
        assert [notification.payload for notification in received] == [str(number) for number in range(100)]
        assert error.sqlstate == "57P01"

    def test_after_the_end_everything_raises_the_reason(self, session: Session, other: Session) -> None:
        self._terminate(other, session)
        until_lost(session)
        for _ in range(2):
            with pytest.raises(ConnectionLost) as caught:
                session.receive()
            assert caught.value.sqlstate == "57P01"
            with pytest.raises(ConnectionLost):
                session.execute("SELECT 1", PATIENCE)

    def test_a_query_on_a_session_that_was_terminated_says_why(
        self, session: Session, other: Session
    ) -> None:
        self._terminate(other, session)
        wait_readable(session)
        with pytest.raises(ConnectionLost) as caught:
            session.execute("SELECT 1", PATIENCE)
        assert caught.value.sqlstate == "57P01"
        assert _TERMINATED in str(caught.value)

    def test_a_query_that_ends_its_own_session_says_why(self, session: Session) -> None:
        with pytest.raises(ConnectionLost) as caught:
            session.execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(60)", PATIENCE)
        assert caught.value.sqlstate == "57P01"
        assert _TERMINATED in str(caught.value)

    def test_a_busy_session_that_is_terminated_says_why(self, session: Session, other: Session) -> None:
        query = background(session.execute, "SELECT pg_sleep(60)", None)
        gevent.sleep(0)  # the hub's turn in which it starts
        self._terminate(other, session)
        with pytest.raises(ConnectionLost) as caught:
            query.get(timeout=PATIENCE)
        assert caught.value.sqlstate == "57P01"
        _, error = until_lost(session)
        assert error.sqlstate == "57P01"

    def test_what_arrived_before_a_busy_session_ended_is_received(
        self, session: Session, other: Session, channel: str
    ) -> None:
        listen(session, channel)
        notify(other, channel, "before")
        wait_readable(session)
        with pytest.raises(ConnectionLost):
            session.execute("SELECT pg_terminate_backend(pg_backend_pid())", PATIENCE)
        received, error = until_lost(session)
        assert received == [Notification(other.pid, channel, "before")]
        assert error.sqlstate == "57P01"

    def test_close_leaves_no_descriptor_and_may_be_repeated(self, connect: Connect, other: Session) -> None:
        with every_descriptor_returned():
            idle, lost = connect(), connect()
            self._terminate(other, lost)
            until_lost(lost)
            for session in (idle, lost):
                session.close()
                session.close()

    def test_after_close_everything_raises(self, session: Session) -> None:
        session.close()
        with pytest.raises(ConnectionLost):
            session.receive()
        with pytest.raises(ConnectionLost):
            session.execute("SELECT 1", PATIENCE)

    def test_a_closed_session_is_gone_at_the_server(self, session: Session, other: Session) -> None:
        assert at_server(other, session)
        session.close()
        wait_until(lambda: not at_server(other, session), "the server ends the session")

    def test_fifty_sessions_come_and_go_without_a_trace(self, connect: Connect, other: Session) -> None:
        with every_descriptor_returned():
            for _ in range(50):
                connect().close()

    def test_abandoned_in_a_forked_child_the_parents_session_lives(
        self, backend: Backend, conninfo: ConnInfo, other: Session, channel: str
    ) -> None:
        # No frame but this list holds the session, so that the child's destructors run.
        held = [connect_to(backend, conninfo)]
        listen(held[0], channel)
        descriptor = held[0].fileno()

        def in_child() -> None:
            before = os.fstat(descriptor)
            session = held.pop()
            session.abandon()
            session.abandon()
            # Copies of the parent's greenlets may wait for it: the number must neither go nor be reused.
            assert not os.path.samestat(before, os.fstat(descriptor))
            session.close()
            del session

        in_a_forked_child(in_child)
        notify(other, channel, "after the child")
        assert wait_for_notifications(held[0], 1) == [Notification(other.pid, channel, "after the child")]
        held[0].execute("SELECT 1", PATIENCE)
        held[0].close()

    def test_an_abandoned_session_keeps_its_number_until_it_is_closed(
        self, connect: Connect, other: Session
    ) -> None:
        other.execute("SELECT 1", PATIENCE)
        with every_descriptor_returned():
            session = connect()
            before = os.fstat(session.fileno())
            session.abandon()
            assert not os.path.samestat(before, os.fstat(session.fileno()))
            session.close()

    @pytest.mark.parametrize("first", ["abandon", "close"])
    def test_a_forked_child_closes_nothing_else_under_its_number(self, connect: Connect, first: str) -> None:
        held = [connect()]

        def in_child() -> None:
            number, session = held[0].fileno(), held.pop()
            if first == "abandon":
                session.abandon()
            with open(
                os.devnull, "rb"
            ) as file:  # As a daemon does, which closes all descriptors and opens others.
                os.dup2(file.fileno(), number)
                session.close()
                del session
                assert os.path.samestat(os.fstat(file.fileno()), os.fstat(number))

        in_a_forked_child(in_child)
        held[0].execute("SELECT 1", PATIENCE)
