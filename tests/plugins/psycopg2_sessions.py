"""Sessions of the psycopg2 backend for the tests that look behind its interface."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gevent.socket import wait_read

from pglisten._connection.connect import dial
from pglisten._conninfo import ConnInfo
from pglisten.backend import Notification
from pglisten.errors import ConnectionLost
from pglisten_psycopg2 import Psycopg2Backend
from pglisten_psycopg2._session import Psycopg2Session

PATIENCE = 20.0
"""Seconds for what takes milliseconds."""

TERMINATED = "terminating connection due to administrator command"

Connect = Callable[..., Psycopg2Session]


class Psycopg2Fixtures:
    """To be inherited by test classes."""

    @pytest.fixture
    def connect(self, server: Any) -> Iterator[Connect]:
        sessions: list[Psycopg2Session] = []

        def connect(**keywords: str) -> Psycopg2Session:
            session = dial(Psycopg2Backend(), ConnInfo.parse(server.dsn(**keywords), os.environ), PATIENCE)
            assert isinstance(session, Psycopg2Session)
            sessions.append(session)
            return session

        yield connect
        for session in sessions:
            session.close()

    @pytest.fixture
    def session(self, connect: Connect) -> Psycopg2Session:
        return connect()

    @pytest.fixture
    def other(self, connect: Connect) -> Psycopg2Session:
        return connect()

    @pytest.fixture
    def channel(self) -> str:
        return f"psycopg2_{secrets.token_hex(6)}"


def received(session: Psycopg2Session, count: int) -> list[Notification]:
    found: list[Notification] = []
    while len(found) < count:
        fresh = session.receive()
        found += fresh
        if not fresh:
            wait_read(session.fileno(), timeout=PATIENCE)
    return found


def lost(session: Psycopg2Session) -> ConnectionLost:
    while True:
        try:
            if not session.receive():
                wait_read(session.fileno(), timeout=PATIENCE)
        except ConnectionLost as error:
            return error


def terminate(other: Psycopg2Session, pid: int) -> None:
    """End the session *pid*, and return when its process is gone."""
    other.execute(f"SELECT pg_terminate_backend({pid}, 10000)", PATIENCE)
