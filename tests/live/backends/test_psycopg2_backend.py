"""Properties of sessions over psycopg2: COPY, notices, descriptors."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
import stat

import gevent
import psycopg2
import pytest

from pglisten.backend import Notification
from pglisten.errors import ConnectionLost, ServerError
from pglisten.testing.contract._forking import in_a_forked_child
from pglisten_psycopg2 import _libpq
from pglisten_psycopg2._session import Psycopg2Session
from support.fixtures.psycopg2_sessions import Psycopg2Fixtures, lost, received, terminate
from support.timeouts import TIMEOUT


class TestQueries(Psycopg2Fixtures):
    @pytest.mark.parametrize(
        "copy",
        ["COPY (SELECT 1) TO STDOUT", "COPY pg_class FROM STDIN", "SELECT 1; COPY (SELECT 1) TO STDOUT"],
    )
    def test_copy_ends_the_session_and_says_so(self, session: Psycopg2Session, copy: str) -> None:
        session.execute("SET allow_system_table_mods = on", TIMEOUT)
        for _ in range(2):
            with pytest.raises(ConnectionLost, match="COPY is not possible here"):
                session.execute(copy, TIMEOUT)
        with pytest.raises(ConnectionLost, match="COPY is not possible here"):
            session.receive()

    def test_a_percent_sign_has_no_meaning(self, session: Psycopg2Session) -> None:
        session.execute("SELECT 'a%s%%' LIKE '%'", TIMEOUT)

    def test_an_empty_query_in_a_transaction_leaves_it_open(self, session: Psycopg2Session) -> None:
        session.execute("BEGIN", TIMEOUT)
        session.execute("-- nothing", TIMEOUT)
        with pytest.raises(ServerError, match="division by zero"):
            session.execute("SELECT 1/0", TIMEOUT)
        session.execute("", TIMEOUT)
        with pytest.raises(ServerError) as caught:
            session.execute("SELECT 1", TIMEOUT)
        assert caught.value.sqlstate == "25P02"

    def test_a_killed_query_leaves_a_session_that_says_so_and_never_blocks(
        self, session: Psycopg2Session, other: Psycopg2Session
    ) -> None:
        running = gevent.spawn(session.execute, "SELECT pg_sleep(30)", None)
        gevent.idle()
        running.kill(timeout=TIMEOUT)
        with gevent.Timeout(TIMEOUT):
            with pytest.raises(ConnectionLost, match="interrupted"):
                session.receive()
            with pytest.raises(ConnectionLost, match="interrupted"):
                session.execute("SELECT 1", None)
            session.close()
        terminate(other, session.pid)  # The server ends the session after the query.

    def test_a_loss_is_raised_without_the_frames_of_the_one_before(
        self, session: Psycopg2Session, other: Psycopg2Session
    ) -> None:
        terminate(other, session.pid)
        first, second = lost(session), lost(session)
        assert first is not second
        assert first.__cause__ is second.__cause__
        assert isinstance(first.__cause__, psycopg2.OperationalError)
        assert first.__cause__.__traceback__ is None


class TestNotices(Psycopg2Fixtures):
    def test_the_number_of_kept_notices_is_limited(self, session: Psycopg2Session) -> None:
        session.execute("DO $$ BEGIN FOR i IN 1..1000 LOOP RAISE NOTICE 'no %', i; END LOOP; END $$", TIMEOUT)
        assert len(session._libpq._notices) == _libpq.NOTICES_KEPT
        session.receive()
        assert session._libpq.notices() == []
        assert session._connection.notices == []

    def test_the_servers_warnings_are_logged_and_the_applications_are_not(
        self, session: Psycopg2Session, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, "pglisten"):
            session.execute("DO $$ BEGIN RAISE NOTICE 'private'; RAISE WARNING 'beware'; END $$", TIMEOUT)
            session.receive()
        assert "beware" in caplog.text
        assert "private" not in caplog.text

    def test_a_querys_warning_is_not_the_reason_of_a_later_loss(self, session: Psycopg2Session) -> None:
        session.execute("DO $$ BEGIN RAISE WARNING 'beware' USING ERRCODE = '58030'; END $$", TIMEOUT)
        with socket.socket(fileno=os.dup(session.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)
        error = lost(session)
        assert "beware" not in str(error)
        assert error.sqlstate is None


class TestDescriptors(Psycopg2Fixtures):
    def test_the_descriptor_outlives_libpqs_own(
        self, session: Psycopg2Session, other: Psycopg2Session
    ) -> None:
        descriptor = session.fileno()
        libpqs = session._connection.fileno()
        assert descriptor != libpqs
        terminate(other, session.pid)
        lost(session)
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(libpqs)
        assert stat.S_ISSOCK(os.fstat(session.fileno()).st_mode)
        assert session.fileno() == descriptor
        session.close()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(descriptor)

    @pytest.mark.parametrize("spare", [True, False], ids=["with a descriptor to spare", "with none"])
    def test_an_abandoned_session_goes_on_in_the_parent(
        self, session: Psycopg2Session, other: Psycopg2Session, channel: str, spare: bool
    ) -> None:
        session.execute(f"LISTEN {channel}", TIMEOUT)
        descriptors = (session.fileno(), session._connection.fileno())
        before = os.fstat(session.fileno())  # The same for both: one is the other's duplicate.

        def in_the_child() -> None:
            if not spare:
                _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            session.abandon()
            session.abandon()
            if spare:  # They stay open without a peer, for greenlets that still wait.
                assert not any(os.path.samestat(os.fstat(descriptor), before) for descriptor in descriptors)
            session.close()
            for descriptor in descriptors:
                with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                    os.fstat(descriptor)

        in_a_forked_child(in_the_child)
        other.execute(f"NOTIFY {channel}, 'still here'", TIMEOUT)
        assert received(session, 1) == [Notification(other.pid, channel, "still here")]
        session.execute("SELECT 1", TIMEOUT)

    def test_a_lost_session_can_be_abandoned(self, session: Psycopg2Session, other: Psycopg2Session) -> None:
        terminate(other, session.pid)
        lost(session)
        descriptor = session.fileno()
        before = os.fstat(descriptor)
        session.abandon()
        assert not os.path.samestat(os.fstat(descriptor), before)
        session.close()
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            os.fstat(descriptor)
