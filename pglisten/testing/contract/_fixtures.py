"""The fixtures that the suite's classes share; a backend's test file defines the first two."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Generator, Iterator
from typing import Protocol

import gevent.socket
import pytest
from gevent.server import StreamServer

from ...backend import Backend, ConnInfo, Session
from ._observing import connect_to

__all__ = ["Connect", "ContractFixtures", "answering"]


class Connect(Protocol):
    """Make a session that is closed after the test; ``None`` means the fixture's own ``conninfo``."""

    def __call__(self, conninfo: ConnInfo | None = None) -> Session: ...


@contextlib.contextmanager
def answering(conninfo: ConnInfo, reply: bytes) -> Generator[ConnInfo, None, None]:
    """Return the way to a server that answers every client's first bytes with *reply*, then disconnects."""

    def serve(client: gevent.socket.socket, _address: object) -> None:
        client.recv(1_000)
        client.sendall(reply)

    server = StreamServer(("127.0.0.1", 0), serve)
    server.start()
    try:
        yield _on_this_machine(conninfo, int(server.address[1]))
    finally:
        server.stop()


def _on_this_machine(conninfo: ConnInfo, port: int) -> ConnInfo:
    place = {"host": "127.0.0.1", "hostaddr": "127.0.0.1", "port": str(port)}
    return ConnInfo({**conninfo.values(), **place})


class ContractFixtures:
    """Base of every class of the suite."""

    @pytest.fixture
    def backend(self) -> Backend:
        """Return the backend under test."""
        raise NotImplementedError("define a fixture `backend` that returns the backend to test")

    @pytest.fixture
    def dsn(self) -> str:
        """Return the connection string of a server that may be used for tests."""
        raise NotImplementedError("define a fixture `dsn` that returns a server's connection string")

    @pytest.fixture
    def conninfo(self, dsn: str) -> ConnInfo:
        """Return ``dsn`` parsed with the current environment."""
        return ConnInfo.parse(dsn, os.environ)

    @pytest.fixture
    def connect(self, backend: Backend, conninfo: ConnInfo) -> Iterator[Connect]:
        """Return a function that makes sessions, which are closed after the test."""
        sessions: list[Session] = []

        own = conninfo

        def connect(conninfo: ConnInfo | None = None) -> Session:
            session = connect_to(backend, conninfo or own)
            sessions.append(session)
            return session

        yield connect
        for session in sessions:
            session.close()

    @pytest.fixture
    def session(self, connect: Connect) -> Session:
        """Return the session under test."""
        return connect()

    @pytest.fixture
    def other(self, connect: Connect) -> Session:
        """Return a second session, which sends notifications and observes the first."""
        return connect()

    @pytest.fixture
    def channel(self) -> str:
        """Return a channel that no other test uses."""
        return f"contract_{secrets.token_hex(6)}"

    @pytest.fixture
    def refusing(self, conninfo: ConnInfo) -> Iterator[ConnInfo]:
        """Return an address that refuses connections: its port is bound but does not listen."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            yield _on_this_machine(conninfo, taken.getsockname()[1])

    @pytest.fixture
    def silent(self, conninfo: ConnInfo) -> Iterator[ConnInfo]:
        """Return an address whose connections the kernel accepts and no program answers."""
        with socket.create_server(("127.0.0.1", 0)) as mute:
            yield _on_this_machine(conninfo, mute.getsockname()[1])
