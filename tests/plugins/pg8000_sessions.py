"""Sessions of the pg8000 backend for the tests that look behind its interface."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import gevent
import pytest
from gevent import socket

from pglisten._connection.connect import dial
from pglisten._conninfo import ConnInfo
from pglisten.backend import Notification
from pglisten.errors import ConnectionLost
from pglisten_pg8000 import Pg8000Backend
from pglisten_pg8000._session import Pg8000Session
from pglisten_wrong_server import READY, WELCOME, authentication, message

__all__ = [
    "PATIENCE",
    "READY",
    "WELCOME",
    "Connect",
    "Pg8000Fixtures",
    "authentication",
    "connect_to",
    "lost",
    "message",
    "read_exactly",
    "read_message",
    "read_startup",
    "received",
    "scripted",
    "until_hung_up",
]

PATIENCE = 20.0
"""Seconds for what takes milliseconds."""

Connect = Callable[..., Pg8000Session]


def connect_to(dsn: str, timeout: float = PATIENCE) -> Pg8000Session:
    conninfo = ConnInfo.parse(dsn, {"HOME": os.devnull})
    backend = Pg8000Backend()
    backend.check(conninfo)
    session = dial(backend, conninfo, timeout)
    assert isinstance(session, Pg8000Session)
    return session


class Pg8000Fixtures:
    """To be inherited by test classes."""

    @pytest.fixture
    def connect(self, server: Any) -> Iterator[Connect]:
        with ExitStack() as sessions:

            def connect(**keywords: object) -> Pg8000Session:
                return sessions.enter_context(closing(connect_to(server.dsn(**keywords))))

            yield connect

    @pytest.fixture
    def session(self, connect: Connect) -> Pg8000Session:
        return connect()

    @pytest.fixture
    def other(self, connect: Connect) -> Pg8000Session:
        return connect()

    @pytest.fixture
    def channel(self) -> str:
        return f"pg8000_{secrets.token_hex(6)}"


def received(session: Pg8000Session, count: int) -> list[Notification]:
    found: list[Notification] = []
    while len(found) < count:
        fresh = session.receive()
        found += fresh
        if not fresh:
            socket.wait_read(session.fileno(), timeout=PATIENCE)
    return found


def lost(session: Pg8000Session) -> ConnectionLost:
    while True:
        try:
            if not session.receive():
                socket.wait_read(session.fileno(), timeout=PATIENCE)
        except ConnectionLost as error:
            return error


def read_exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, "the backend hung up"
        data += piece
    return data


def read_startup(client: socket.socket) -> bytes:
    """Read the message without a type that a client begins with; return what follows its length."""
    return read_exactly(client, int.from_bytes(read_exactly(client, 4), "big") - 4)


def read_message(client: socket.socket) -> tuple[bytes, bytes]:
    kind = read_exactly(client, 1)
    return kind, read_exactly(client, int.from_bytes(read_exactly(client, 4), "big") - 4)


def until_hung_up(client: socket.socket) -> None:
    """Take what the backend sends until it closes its end, which may be a reset."""
    with suppress(ConnectionResetError):
        while client.recv(8192):
            pass


@contextmanager
def scripted(script: Callable[[socket.socket], object], **keywords: str) -> Iterator[str]:
    """Listen, do *script* with the first client; give the DSN that leads there. Errors in it are raised."""
    with socket.socket() as listening:  # gevent's create_server makes one that blocks
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.settimeout(PATIENCE)
                script(client)

        serving = gevent.spawn(serve)
        port = listening.getsockname()[1]
        settings = {"user": "app", "sslmode": "disable", "password": "s3cret", **keywords}
        try:
            yield f"host=127.0.0.1 port={port} " + " ".join(f"{k}={v}" for k, v in settings.items())
            serving.get(timeout=PATIENCE)
        finally:
            serving.kill()
