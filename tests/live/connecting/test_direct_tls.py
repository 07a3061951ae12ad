"""``sslnegotiation=direct``: TLS from the first byte, which PostgreSQL supports since version 17."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gevent.server import StreamServer
from gevent.ssl import SSLContext

from pglisten import load_backend
from pglisten.errors import ConfigurationError, ConnectionFailed
from support.fixtures.environment import leave_out
from support.fixtures.listeners import MakeConnection
from support.fixtures.servers import Server
from support.fixtures.tls import TlsServer
from support.servers.certificates import Authority

DIRECT = {"sslnegotiation": "direct", "sslmode": "require"}
HINT = "sslnegotiation=direct needs PostgreSQL 17 or newer with TLS"


def major(server: Server) -> int:
    return int(server.version.partition(".")[0])


@pytest.fixture(autouse=True)
def able(backend_name: str) -> None:
    description = load_backend(backend_name).description()
    if backend_name != "pg8000" and int(description.rpartition("libpq ")[2].partition(".")[0]) < 17:
        leave_out("direct", f"{description} here: direct TLS came with 17")


@pytest.fixture(scope="module")
def direct_server(start_tls: Callable[..., TlsServer]) -> TlsServer:
    server = start_tls("localhost", "127.0.0.1", newest=True)
    if major(server) < 17:
        leave_out("direct", f"no server programs from 17 on have SSL, {server.version} is the newest")
    return server


@pytest.mark.parametrize("method", ["scram-sha-256", "trust"])
@pytest.mark.parametrize("sslmode", ["require", "verify-ca", "verify-full"])
def test_a_server_from_17_on_is_spoken_to_over_tls(
    make_connection: MakeConnection, direct_server: TlsServer, method: str, sslmode: str
) -> None:
    keywords = {"sslmode": sslmode, "host": "localhost"}
    if sslmode != "require":
        keywords["sslrootcert"] = direct_server.ca
    name = f"direct {method} {sslmode}"
    dsn = direct_server.login(method, sslnegotiation="direct", application_name=name, **keywords)
    connection = make_connection(dsn)
    assert direct_server.query(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = %s", name
    ) == [(True,)]
    connection.listen("over_direct_tls", timeout=20)
    connection.notify("over_direct_tls", "é" * 3000, timeout=20)
    found = connection.get(timeout=20)
    assert found is not None
    assert found.payload == "é" * 3000


def test_channel_binding_works_over_it(make_connection: MakeConnection, direct_server: TlsServer) -> None:
    make_connection(direct_server.login("scram-sha-256", channel_binding="require", **DIRECT))


def test_a_wrong_certificate_is_refused_as_such(
    make_connection: MakeConnection, direct_server: TlsServer
) -> None:
    verified = {"sslmode": "verify-full", "sslrootcert": direct_server.wrong_ca, "host": "localhost"}
    with pytest.raises(ConnectionFailed, match="certificate") as caught:
        make_connection(direct_server.login("trust", sslnegotiation="direct", **verified))
    assert HINT not in str(caught.value)


def test_a_wrong_password_is_refused_as_such(
    make_connection: MakeConnection, direct_server: TlsServer
) -> None:
    with pytest.raises(ConnectionFailed) as caught:
        make_connection(direct_server.login("scram-sha-256", **{**DIRECT, "password": "wrong"}))
    assert caught.value.sqlstate == "28P01"
    assert HINT not in str(caught.value)


def test_an_older_server_is_told_apart(make_connection: MakeConnection, tls_server: TlsServer) -> None:
    if major(tls_server) >= 17:
        leave_out("older", f"the TLS server is {tls_server.version}, and knows direct TLS")
    with pytest.raises(ConnectionFailed, match=HINT):
        make_connection(tls_server.login("trust", **DIRECT))


def test_a_server_without_tls_is_told_apart(make_connection: MakeConnection, server: Server) -> None:
    if server.has_ssl:
        leave_out("older", "the server has TLS")
    with pytest.raises(ConnectionFailed, match=HINT):
        make_connection(server.dsn(**DIRECT))


@pytest.fixture
def other_tls_port(tmp_path: Path) -> Iterator[int]:
    """A port with TLS but without PostgreSQL, such as that of an HTTPS server."""
    pair = Authority("another").server("localhost")
    (tmp_path / "crt").write_text(pair.certificate_pem)
    (tmp_path / "key").write_text(pair.key_pem())
    context = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    server = StreamServer(("127.0.0.1", 0), lambda link, _: link.recv(1), ssl_context=context)
    server.start()
    yield server.server_port  # type: ignore[misc]  # Not None once it serves.
    server.stop()


def test_a_tls_server_that_does_not_say_it_is_postgresql_gets_no_password(
    make_connection: MakeConnection, other_tls_port: int
) -> None:
    with pytest.raises(ConnectionFailed, match=r"ALPN|does not confirm that it is PostgreSQL"):
        make_connection(
            f"host=127.0.0.1 port={other_tls_port} user=a password=b sslnegotiation=direct sslmode=require"
        )


def test_a_mode_that_would_do_without_tls_is_refused(make_connection: MakeConnection, server: Server) -> None:
    with pytest.raises(ConfigurationError, match="sslmode=prefer is too weak for sslnegotiation=direct"):
        make_connection(server.dsn(sslnegotiation="direct"))


def test_a_unix_socket_takes_no_notice_of_it(
    make_connection: MakeConnection, direct_server: TlsServer
) -> None:
    make_connection(direct_server.login("trust", host=direct_server.socket_directory, **DIRECT))
