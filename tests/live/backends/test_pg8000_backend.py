"""The pg8000 backend: its assumptions about pg8000, and the state of its sessions."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import socket
from pg8000.core import CoreConnection

from pglisten.backend import Notification
from pglisten.errors import ConnectionLost, ServerError
from pglisten.testing.contract._forking import in_a_forked_child
from pglisten_pg8000._driver import LogIn
from pglisten_pg8000._session import BUDGET, Pg8000Session
from support.fixtures.pg8000_sessions import (
    READY,
    WELCOME,
    Connect,
    Pg8000Fixtures,
    connect_to,
    lost,
    message,
    read_exactly,
    read_message,
    read_startup,
    received,
    scripted,
)
from support.timeouts import TIMEOUT

NOTIFICATION = message(b"A", bytes([0, 0, 0, 7]) + b"c\0payload\0")


class Stream:
    """Takes the place of pg8000's socket, and records its calls."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.written = b""
        self.calls: list[str] = []

    def makefile(self, mode: str) -> Stream:
        self.calls.append(f"makefile {mode}")
        return self

    def read(self, size: int) -> bytes:
        data, self.answer = self.answer[:size], self.answer[size:]
        return data

    def write(self, data: bytes) -> None:
        self.written += data

    def flush(self) -> None:
        self.calls.append("flush")

    def certificate(self) -> bytes | None:
        return None

    def compute(self, function: Callable[[], Any]) -> Any:
        return function()


class TestWhatIsTakenForGrantedOfPg8000:
    def connect(self, answer: bytes) -> tuple[Stream, Any]:
        stream = Stream(answer)
        return stream, CoreConnection(
            "app", ssl_context=False, sock=stream, startup_params={"client_encoding": "UTF8"}
        )

    def test_start_up_uses_nothing_but_the_streams_file(self) -> None:
        stream, _ = self.connect(WELCOME)
        assert stream.calls == ["makefile rwb", "flush"]

    def test_without_an_ssl_context_it_begins_with_the_start_up_message(self) -> None:
        stream, _ = self.connect(WELCOME)
        assert stream.written == message(b"", b"\0\3\0\0user\0app\0client_encoding\0UTF8\0\0")

    def test_nothing_after_ready_for_query_is_read(self) -> None:
        stream, _ = self.connect(WELCOME + NOTIFICATION)
        assert stream.answer == NOTIFICATION

    def test_discarding_it_sends_nothing(self) -> None:
        stream, connection = self.connect(WELCOME)
        before = (stream.written, list(stream.calls))
        del connection
        assert (stream.written, stream.calls) == before
        assert not hasattr(CoreConnection, "__del__")

    def test_messages_reach_the_methods_that_are_overridden(self) -> None:
        overridden = [name for name in vars(LogIn) if name == "close" or name.startswith("handle_")]
        assert len(overridden) == 7
        for name in overridden:
            assert list(inspect.signature(getattr(LogIn, name)).parameters) == list(
                inspect.signature(getattr(CoreConnection, name)).parameters
            )

    def test_an_own_message_is_framed_and_written(self) -> None:
        stream, connection = self.connect(WELCOME)
        stream.written = b""
        connection._send_message(b"p", b"answer")
        assert stream.written == message(b"p", b"answer")

    def test_the_server_process_id_is_that_of_backend_key_data(self) -> None:
        with scripted(lambda client: (read_startup(client), client.sendall(WELCOME))) as dsn:
            session = connect_to(dsn)
            assert session.pid == 4711
            session.close()

    def test_data_right_after_ready_for_query_is_received(self) -> None:
        with scripted(lambda client: (read_startup(client), client.sendall(WELCOME + NOTIFICATION))) as dsn:
            session = connect_to(dsn)
            assert received(session, 1) == [Notification(7, "c", "payload")]
            session.close()


class TestSessions(Pg8000Fixtures):
    @pytest.mark.parametrize("busy", [False, True])
    def test_a_session_the_server_ends_has_the_servers_reason(
        self, session: Pg8000Session, other: Pg8000Session, busy: bool
    ) -> None:
        ending = gevent.spawn(other.execute, f"SELECT pg_terminate_backend({session.pid})", TIMEOUT)
        if busy:
            with pytest.raises(ConnectionLost) as caught:
                session.execute("SELECT pg_sleep(60)", TIMEOUT)
            error = caught.value
        else:
            error = lost(session)
        ending.get(timeout=TIMEOUT)
        assert (str(error), error.sqlstate) == (
            "terminating connection due to administrator command",
            "57P01",
        )

    def test_a_query_on_a_session_that_has_ended_has_the_servers_reason(
        self, session: Pg8000Session, other: Pg8000Session
    ) -> None:
        other.execute(f"SELECT pg_terminate_backend({session.pid}, 10000)", TIMEOUT)
        with pytest.raises(ConnectionLost) as caught:
            session.execute("SELECT 1", TIMEOUT)
        assert caught.value.sqlstate == "57P01"

    def test_copy_ends_the_session_and_says_so(self, session: Pg8000Session) -> None:
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="COPY"):
                session.execute("COPY pg_class TO STDOUT", TIMEOUT)

    def test_rows_are_discarded_and_an_error_among_them_is_reported(self, session: Pg8000Session) -> None:
        with pytest.raises(ServerError, match="22012"):
            session.execute("SELECT 1 / (90000 - g) FROM generate_series(1, 100000) g", TIMEOUT)
        session.execute("SELECT repeat('x', 20000000)", TIMEOUT)
        assert not session._protocol._partial

    def test_a_notice_of_megabytes_is_no_loss(self, session: Pg8000Session) -> None:
        session.execute("DO $$ BEGIN RAISE NOTICE '%', repeat('x', 5000000); END $$", TIMEOUT)
        session.execute("SELECT 1", TIMEOUT)

    def test_a_session_whose_query_was_killed_refuses_the_next(
        self, session: Pg8000Session, other: Pg8000Session
    ) -> None:
        query = gevent.spawn(session.execute, "SELECT pg_sleep(60)", TIMEOUT)
        gevent.sleep(0)
        query.kill()
        with pytest.raises(ConnectionLost, match="interrupted"):
            session.execute("SELECT 1", TIMEOUT)
        other.execute(f"SELECT pg_terminate_backend({session.pid})", TIMEOUT)

    def test_client_encoding_is_utf8_whatever_the_options_and_the_database_say(
        self, server: Any, connect: Connect, other: Pg8000Session, channel: str
    ) -> None:
        database = f"ascii_{channel}"
        other.execute(
            f"CREATE DATABASE {database} ENCODING SQL_ASCII TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
            TIMEOUT,
        )
        try:
            session = connect(dbname=database, options="-c client_encoding=SQL_ASCII")
            session.execute(f"LISTEN {channel}; NOTIFY {channel}, 'Ωmega'", TIMEOUT)
            assert session.receive() == [Notification(session.pid, channel, "Ωmega")]
            session.close()
        finally:
            other.execute(f"DROP DATABASE {database} WITH (FORCE)", TIMEOUT)

    @pytest.mark.parametrize("sslmode", ["disable", "require"])
    def test_a_forked_child_that_abandons_leaves_the_parents_session_alone(
        self, tls_server: Any, channel: str, sslmode: str
    ) -> None:
        session = connect_to(tls_server.login("trust", sslmode=sslmode))
        number = session.fileno()
        before = os.fstat(number)

        def child() -> None:
            session.abandon()
            session.abandon()
            assert not os.path.samestat(os.fstat(number), before)  # Greenlets may still wait for it.
            session.close()
            assert session.fileno() == -1
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(number)

        in_a_forked_child(child)
        session.execute(f"LISTEN {channel}; NOTIFY {channel}", TIMEOUT)
        assert session.receive() == [Notification(session.pid, channel, "")]
        session.close()

    def test_a_burst_over_tls_needs_the_descriptor_no_more_once_it_was_received(
        self, tls_server: Any, channel: str
    ) -> None:
        session = connect_to(tls_server.login("trust", sslmode="require"))
        session.execute(f"LISTEN {channel}", TIMEOUT)
        session.execute(f"SELECT pg_notify('{channel}', g::text) FROM generate_series(1, 20000) g", TIMEOUT)
        arrived = []
        while more := session.receive():
            arrived += more
        assert [n.payload for n in arrived] == [str(number) for number in range(1, 20001)]
        session.close()

    @pytest.mark.parametrize("patch", ["", "from gevent import monkey; monkey.patch_all()"])
    def test_it_is_bound_to_the_tls_channel_in_a_patched_process_and_in_any_other(
        self, tls_server: Any, patch: str
    ) -> None:
        program = f"""{patch}
import sys
sys.path[:0] = {sys.path!r}
from support.fixtures.pg8000_sessions import connect_to
session = connect_to(sys.argv[1])
session.execute("LISTEN c; NOTIFY c, 'é'", 20)
assert [n.payload for n in session.receive()] == ["é"]
session.close()
"""
        dsn = tls_server.login("scram-sha-256", sslmode="require", channel_binding="require")
        subprocess.run([sys.executable, "-W", "error", "-c", program, dsn], check=True, timeout=60)


class TestBothDirectionsAtOnce:
    def test_a_query_is_sent_while_the_server_sends_and_reads_nothing(self) -> None:
        notification = message(b"A", bytes([0, 0, 0, 7]) + b"c\0" + b"x" * 7999 + b"\0")
        burst = 4_000
        sql = "SELECT 1 -- " + "x" * 32_000_000  # Both exceed the sockets' buffers.

        def talk_first(client: socket.socket) -> None:
            read_startup(client)
            client.sendall(WELCOME)
            read_exactly(client, 1)
            client.sendall(notification * burst)
            read_exactly(client, int.from_bytes(read_exactly(client, 4), "big") - 4)
            client.sendall(READY)
            assert read_message(client) == (b"X", b"")

        with scripted(talk_first) as dsn:
            session = connect_to(dsn)
            session.execute(sql, TIMEOUT)
            assert len(received(session, burst)) == burst
            session.close()

    def test_a_call_of_receive_does_a_part_of_a_burst(self) -> None:
        def burst(client: socket.socket) -> None:
            read_startup(client)
            client.sendall(WELCOME)
            assert read_message(client)[0] == b"Q"
            client.sendall(READY + NOTIFICATION * 20_000)
            assert read_message(client) == (b"X", b"")

        with scripted(burst) as dsn:
            session = connect_to(dsn)
            session.execute("", TIMEOUT)
            arrived = 0
            while arrived < 20_000:
                more = len(session.receive())
                assert more * len(NOTIFICATION) < 2 * BUDGET + len(NOTIFICATION)
                arrived += more
                if not more:
                    socket.wait_read(session.fileno(), timeout=TIMEOUT)
            session.close()
