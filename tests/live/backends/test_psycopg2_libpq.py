"""The psycopg2 backend's assumptions about libpq, and the settings that it gives to libpq."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg2
import pytest
from gevent.socket import wait_read
from psycopg2 import _psycopg

import pglisten_psycopg2
from pglisten._connection.resolve import resolve
from pglisten._conninfo import ConnInfo
from pglisten.backend import Notification
from pglisten.errors import ConfigurationError, ConnectionFailed, ConnectionLost
from pglisten_libpq.reasons import explain
from pglisten_libpq.settings import settings as libpq_settings
from pglisten_psycopg2 import Psycopg2Backend, _backend, _libpq
from pglisten_psycopg2._session import Psycopg2Session
from pglisten_psycopg2._wait import wait
from support.fixtures.psycopg2_sessions import (
    TERMINATED,
    Connect,
    Psycopg2Fixtures,
    lost,
    received,
    terminate,
)
from support.timeouts import TIMEOUT


def without_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_libpq, "_libpq", None)


def frames_of_backend_and_driver(traceback: TracebackType | None) -> Iterator[str]:
    folders = tuple(os.path.dirname(str(package.__file__)) for package in (pglisten_psycopg2, psycopg2))
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if code.co_filename.startswith(folders):
            yield f"{code.co_name} {traceback.tb_frame.f_locals}"
        traceback = traceback.tb_next


class TestLibpqBehindPsycopg2(Psycopg2Fixtures):
    def test_libpqs_functions_are_found_through_psycopg2s_extension_module(self) -> None:
        assert _libpq.bind(_psycopg.__file__) is not None

    def test_an_extension_module_without_libpq_gives_no_functions(self) -> None:
        other_extension = sys.modules["gevent._gevent_c_hub_local"].__file__
        assert _libpq.bind(other_extension) is None
        assert _libpq.bind(None) is None

    def test_psycopg2_gives_the_address_of_its_connection_even_after_a_loss(
        self, session: Psycopg2Session, other: Psycopg2Session
    ) -> None:
        conn = session._connection
        address = conn.pgconn_ptr
        assert address
        terminate(other, session.pid)
        lost(session)
        assert conn.closed
        assert conn.pgconn_ptr == address

    def test_a_failed_attempt_has_the_servers_code(self, connect: Connect) -> None:
        with pytest.raises(ConnectionFailed, match=r'database "no\.such" does not exist') as caught:
            connect(dbname="no.such")
        assert caught.value.sqlstate == "3D000"

    def test_a_session_ended_while_idle_has_the_servers_code(
        self, session: Psycopg2Session, other: Psycopg2Session
    ) -> None:
        terminate(other, session.pid)
        error = lost(session)
        assert (str(error), error.sqlstate) == (TERMINATED, "57P01")

    def test_a_session_ended_before_a_query_has_the_servers_code(
        self, session: Psycopg2Session, other: Psycopg2Session
    ) -> None:
        terminate(other, session.pid)
        with pytest.raises(ConnectionLost, match=TERMINATED) as caught:
            session.execute("SELECT 1", TIMEOUT)
        assert caught.value.sqlstate == "57P01"

    def test_notifications_read_with_a_reply_survive_the_loss_that_came_with_it(
        self, connect: Connect, other: Psycopg2Session, channel: str
    ) -> None:
        session = connect(sslmode="disable")  # TLS would return the data record by record.
        session.execute(f"LISTEN {channel}", TIMEOUT)
        assert session.receive() == []
        conn = session._connection
        cursor = conn.cursor()
        cursor.execute(f"NOTIFY {channel}, '1'; NOTIFY {channel}, 'é'")
        wait_read(session.fileno(), timeout=TIMEOUT)
        terminate(other, session.pid)
        wait(conn)  # Reads everything, but parses only the reply.
        assert conn.notifies == []
        with pytest.raises(psycopg2.OperationalError):
            conn.poll()  # The reason for LibpqAccess: psycopg2 fails before it looks at the rest.
        assert conn.notifies == []
        assert received(session, 2) == [
            Notification(session.pid, channel, "1"),
            Notification(session.pid, channel, "é"),
        ]
        error = lost(session)
        assert (str(error), error.sqlstate) == (TERMINATED, "57P01")

    def test_without_libpqs_functions_the_reason_has_no_code(
        self, connect: Connect, other: Psycopg2Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_libpq(monkeypatch)
        session = connect()
        terminate(other, session.pid)
        error = lost(session)
        assert (str(error), error.sqlstate) == (TERMINATED, None)

    def test_without_libpqs_functions_a_failed_attempt_has_no_code(
        self, connect: Connect, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        without_libpq(monkeypatch)
        with pytest.raises(ConnectionFailed, match=r': database "no\.such" does not exist') as caught:
            connect(dbname="no.such")
        assert caught.value.sqlstate is None

    def test_a_closed_session_leaves_nothing_in_the_table_of_connections(self, connect: Connect) -> None:
        before = len(_libpq._by_pgconn)
        session = connect()
        assert len(_libpq._by_pgconn) == before + 1
        session.close()
        assert len(_libpq._by_pgconn) == before


class TestSettings(Psycopg2Fixtures):
    def test_an_unknown_keyword_is_refused_by_name(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^frobnicate: not known to the libpq \d\d "):
            Psycopg2Backend().check(ConnInfo({"host": "/tmp", "frobnicate": "1"}))

    def test_an_older_libpq_is_not_given_sslrootcert_system(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_backend, "libpq_version", lambda: 150013)
        with pytest.raises(ConfigurationError, match=r"^sslrootcert=system: not known to the libpq 15 "):
            Psycopg2Backend().check(ConnInfo({"user": "system", "sslrootcert": "system"}))
        Psycopg2Backend().check(ConnInfo({"user": "system", "sslrootcert": "/etc/roots.pem"}))

    def test_a_key_in_an_openssl_engine_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "engine:key").touch()
        keywords = f"host=db sslkey='{tmp_path}/engine:key'"
        with pytest.raises(ConfigurationError, match=r"^sslkey: no file with ':' in its path is possible"):
            Psycopg2Backend().check(ConnInfo.parse(keywords, {}))

    def test_client_encoding_is_utf8_whatever_the_options_say(
        self, connect: Connect, other: Psycopg2Session, channel: str
    ) -> None:
        session = connect(options="-c client_encoding=LATIN1")
        session.execute(f"LISTEN {channel}", TIMEOUT)
        other.execute(f"NOTIFY {channel}, 'Ωmega'", TIMEOUT)
        assert received(session, 1)[0].payload == "Ωmega"

    @pytest.mark.parametrize(
        "keywords", [{"host": "/nowhere"}, {"dbname": "no.such"}], ids=["dial", "server"]
    )
    def test_a_failure_keeps_no_frame_that_knows_the_password(
        self, connect: Connect, keywords: dict[str, str]
    ) -> None:
        with pytest.raises(ConnectionFailed) as caught:
            connect(password="s3cret", **keywords)
        assert isinstance(caught.value.__cause__, psycopg2.OperationalError)
        for error in (caught.value, caught.value.__cause__):
            assert "s3cret" not in str(error)
            frames = list(frames_of_backend_and_driver(error.__traceback__))
            assert [frame for frame in frames if "s3cret" in frame] == []

    def test_a_database_without_encoding_is_warned_of_and_passes_utf8(
        self, connect: Connect, other: Psycopg2Session, channel: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        database = f"ascii_{secrets.token_hex(4)}"
        other.execute(
            f"CREATE DATABASE {database} ENCODING SQL_ASCII TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
            TIMEOUT,
        )
        try:
            session, sender = connect(dbname=database), connect(dbname=database)
            assert f"/{database}: the database has no encoding" in caplog.text
            session.execute(f"LISTEN {channel}", TIMEOUT)
            sender.execute(f"NOTIFY {channel}, 'Ωmega'", TIMEOUT)
            assert received(session, 1)[0].payload == "Ωmega"
            sender.execute(rf"SELECT pg_notify('{channel}', convert_from('\xe9', 'SQL_ASCII'))", TIMEOUT)
            error = lost(session)
            assert (error.sqlstate, "invalid byte sequence" in str(error)) == ("22021", True)
            session.close()
            sender.close()
        finally:
            other.execute(f"DROP DATABASE {database} WITH (FORCE)", TIMEOUT)

    def test_resolving_leaves_libpq_nothing_to_look_up(self, server: Any) -> None:
        for target in resolve(ConnInfo.parse(server.dsn(host="localhost"), os.environ), TIMEOUT):
            settings = libpq_settings(target, _backend._is_known)
            assert settings["host"] == "localhost"
            assert settings["hostaddr"] in {"127.0.0.1", "::1"}
            assert settings["gssencmode"] == "disable"


class TestWhatLibpqSays:
    def test_the_error_has_both_refusals_of_sslmode_prefer(self) -> None:
        text = (
            'connection to server at "::1", port 1 failed: FATAL:  28000: no entry, SSL encryption\n'
            "LOCATION:  ClientAuthentication, auth.c:476\n"
            'connection to server at "::1", port 1 failed: FATAL:  28000: no entry, no encryption\n'
            "LOCATION:  ClientAuthentication, auth.c:476\n"
        )
        assert explain(text) == ("no entry, SSL encryption; no entry, no encryption", "28000")

    def test_the_error_has_a_repeated_refusal_once(self) -> None:
        refusal = 'FATAL:  28P01: password authentication failed for user "app"\nLOCATION:  f, auth.c:3\n'
        text = f'{refusal}connection to server at "::1", port 1 failed: {refusal}'
        assert explain(text) == ('password authentication failed for user "app"', "28P01")

    def test_the_severitys_language_does_not_matter(self) -> None:
        text = '致命的エラー:  3D000: データベース"x"は存在しません\n場所:  InitPostgres, postinit.c:948\n'
        assert explain(text) == ('データベース"x"は存在しません', "3D000")

    def test_an_errors_detail_is_no_error(self) -> None:
        assert explain("FATAL:  53300: too many\nDETAIL:  ERROR: none\n") == ("too many", "53300")

    def test_libpqs_own_message_has_no_introduction_and_no_advice(self) -> None:
        text = (
            'connection to server at "127.0.0.1", port 1 failed: Connection refused\n'
            "\tIs the server running on that host and accepting TCP/IP connections?\n"
        )
        assert explain(text) == ("Connection refused", None)
