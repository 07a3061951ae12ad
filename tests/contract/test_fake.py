"""The backend in memory keeps the contract."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten.backend import Backend, ConnInfo
from pglisten.errors import ConnectionFailed
from pglisten.testing import FakeBackend, FakeServer
from pglisten.testing.contract import BackendContract


class TestFakeBackend(BackendContract):
    @pytest.fixture
    def server(self) -> FakeServer:
        return FakeServer(databases={"app"})

    @pytest.fixture
    def backend(self, server: FakeServer) -> Backend:
        return FakeBackend(server)

    @pytest.fixture
    def dsn(self) -> str:
        return "host=/nowhere dbname=app user=app"

    @pytest.fixture
    def refusing(self, server: FakeServer, conninfo: ConnInfo) -> ConnInfo:
        server.refuse = ConnectionFailed("connection refused")
        return conninfo

    @pytest.fixture
    def silent(self, server: FakeServer, conninfo: ConnInfo) -> Iterator[ConnInfo]:
        server.freeze()
        yield conninfo
        server.thaw()
