"""The backends that come with pglisten keep the contract, each that is installed."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pglisten import load_backend
from pglisten.backend import Backend
from pglisten.testing.contract import (
    AuthenticationContract,
    BackendContract,
    ConnectContract,
    EndContract,
    TlsContract,
    TlsSite,
    WireContract,
)
from support.fixtures.tls import TlsServer
from support.servers.server import Server

METHODS = ("scram-sha-256", "md5", "password")


class Bundled:
    @pytest.fixture
    def backend(self, backend_name: str) -> Backend:
        return load_backend(backend_name)


class TestOverTcp(Bundled, BackendContract, WireContract):
    @pytest.fixture
    def dsn(self, server: Server) -> str:
        return server.dsn()


class TestOverAUnixSocket(Bundled, ConnectContract, EndContract):
    @pytest.fixture
    def dsn(self, auth_server: TlsServer) -> str:
        return auth_server.login("scram-sha-256", host=auth_server.socket_directory)


class TestOverTls(Bundled, TlsContract):
    @pytest.fixture
    def dsn(self, tls_server: TlsServer) -> str:
        return tls_server.login("scram-sha-256")

    @pytest.fixture
    def tls(self, tls_server: TlsServer) -> TlsSite:
        return TlsSite(
            host="localhost",
            root=tls_server.ca,
            wrong_root=tls_server.wrong_ca,
            user="cert_user",
            certificate=tls_server.client_cert,
            key=tls_server.client_key,
        )


class TestLogin(Bundled, AuthenticationContract):
    @pytest.fixture
    def logins(self, auth_server: TlsServer) -> Mapping[str, str]:
        return {method: auth_server.login(method) for method in METHODS}


class TestLoginOverAUnixSocket(Bundled, AuthenticationContract):
    @pytest.fixture
    def logins(self, auth_server: TlsServer) -> Mapping[str, str]:
        return {method: auth_server.login(method, host=auth_server.socket_directory) for method in METHODS}
