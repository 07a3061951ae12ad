"""Errors, events and the log give the reason of a failed attempt and a remedy, and never a password."""

from __future__ import annotations

import logging
import os
import signal
import socket
from pathlib import Path

import gevent
import pytest

from pglisten import ConnectionFailed, InvalidChannelName, ListenerClosed, ServerError
from pglisten._connection import resolve as _resolve
from support.fixtures.diagnosis import SECRET, Diagnose, app, says
from support.fixtures.listeners import Events, MakeConnection, MakeListener, fence
from support.fixtures.pgbouncer import StartPgBouncer
from support.fixtures.proxy import MakeProxy
from support.fixtures.standby import StandbyPair
from support.fixtures.tls import PASSWORD, PLAIN_ONLY, TLS_ONLY, TlsServer
from support.servers.server import PrivateServer, Server
from support.servers.wrong_server import Script, Then, wrong_server


@pytest.mark.parametrize(
    ("keywords", "sqlstate", "cause", "remedy"),
    [
        ({"user": "limited"}, "53300", 'for role "limited"', "raise its CONNECTION LIMIT"),
        ({"dbname": "crowded"}, "53300", 'for database "crowded"', "raise its CONNECTION LIMIT"),
        ({"dbname": "closed"}, "42501", "permission denied for database", "GRANT CONNECT ON DATABASE"),
        ({"dbname": "no_such"}, "3D000", '"no_such" does not exist', "correct dbname, or create"),
        ({"user": "nologin"}, "28000", "not permitted to log in", "ALTER ROLE ... LOGIN"),
        ({"user": "nobody_at_all"}, "28000", 'role "nobody_at_all" does not exist', "correct user"),
        ({"user": "stranger"}, "28000", "no pg_hba.conf entry.*no encryption", "pg_hba.conf"),
        ({"sslmode": "require"}, None, "does not support SSL|does not do TLS", "turn ssl on at the server"),
        ({"host": "/nowhere"}, None, "No such file or directory", "PGHOST=localhost"),
    ],
)
def test_what_the_server_refuses(
    diagnose: Diagnose,
    strict: PrivateServer,
    keywords: dict[str, object],
    sqlstate: str | None,
    cause: str,
    remedy: str,
) -> None:
    error = diagnose(app(strict, **keywords))
    assert error.sqlstate == sqlstate
    assert says(error, cause, remedy)


def test_no_connection_is_left(
    diagnose: Diagnose, make_connection: MakeConnection, strict: PrivateServer
) -> None:
    # With the fixture's session, these are all but the three reserved connections.
    for _ in range(4):
        make_connection(app(strict))
    error = diagnose(app(strict))
    assert error.sqlstate == "53300"
    assert says(error, "too many clients already|slots are reserved", "raise max_connections")


class TestPassword:
    """A wrong password from each source, and no password."""

    @pytest.mark.parametrize("source", ["the connection string", "PGPASSWORD", "password file"])
    def test_a_wrong_one_and_where_it_came_from(
        self,
        diagnose: Diagnose,
        strict: PrivateServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        source: str,
    ) -> None:
        wrong = SECRET + "-wrong"
        passfile = tmp_path / "pgpass"
        passfile.touch(mode=0o600)
        passfile.write_text(f"*:*:*:*:{wrong}\n")
        keywords: dict[str, object] = {"password": None}
        if source == "the connection string":
            keywords = {"password": wrong}
        elif source == "PGPASSWORD":
            monkeypatch.setenv("PGPASSWORD", wrong)
        else:
            monkeypatch.setenv("PGPASSFILE", str(passfile))
        error = diagnose(app(strict, **keywords))
        assert error.sqlstate == "28P01"
        assert says(error, "password authentication failed", f"the password came from {source}")

    def test_none(
        self, diagnose: Diagnose, strict: PrivateServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
        error = diagnose(app(strict, password=None))
        assert error.sqlstate is None
        assert says(error, "there is no password file .*/none", "set PGPASSWORD, or add a line")


class TestTls:
    """Errors of certificates; libpq gives fewer details than ``ssl``."""

    def test_a_certificate_of_an_authority_that_is_not_trusted(
        self, diagnose: Diagnose, tls_server: TlsServer
    ) -> None:
        error = diagnose(tls_server.login("password", sslmode="verify-ca", sslrootcert=tls_server.wrong_ca))
        assert says(error, "certificate", "set sslrootcert to the certificate of the authority")

    def test_an_expired_one(self, diagnose: Diagnose, expired_tls_server: TlsServer) -> None:
        error = diagnose(
            expired_tls_server.login("password", sslmode="verify-ca", sslrootcert=expired_tls_server.ca)
        )
        assert says(
            error, "certificate has expired|certificate verify failed", "renew|unless that has expired"
        )

    def test_a_revoked_one(self, diagnose: Diagnose, tls_server: TlsServer) -> None:
        keywords = {"sslrootcert": tls_server.ca, "sslcrl": tls_server.revoking_crl}
        error = diagnose(tls_server.login("password", sslmode="verify-ca", **keywords))
        assert says(error, "certificate revoked|certificate verify failed", "sslcrl|is revoked")

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_one_for_another_host(
        self, diagnose: Diagnose, misnamed_tls_server: TlsServer, host: str
    ) -> None:
        keywords = {"host": host, "hostaddr": "127.0.0.1", "sslrootcert": misnamed_tls_server.ca}
        error = diagnose(misnamed_tls_server.login("password", sslmode="verify-full", **keywords))
        assert says(error, "does not match|mismatch", "set host to the name in the server's certificate")

    def test_the_server_wants_one_and_there_is_none(self, diagnose: Diagnose, tls_server: TlsServer) -> None:
        error = diagnose(tls_server.login("cert", sslmode="require"))
        assert error.sqlstate == "28000"
        assert says(error, "requires a valid client certificate", "set sslcert and sslkey")

    def test_the_server_does_not_trust_the_clients(self, diagnose: Diagnose, tls_server: TlsServer) -> None:
        keywords = {"sslcert": tls_server.stranger_cert, "sslkey": tls_server.stranger_key}
        error = diagnose(tls_server.login("cert", sslmode="require", **keywords))
        assert says(error, "alert unknown ca", "client certificate")

    @pytest.mark.parametrize(
        ("user", "sslmode", "cause"),
        [(TLS_ONLY, "disable", "no encryption"), (PLAIN_ONLY, "require", "SSL encryption")],
    )
    def test_the_server_wants_it_or_does_not(
        self, diagnose: Diagnose, tls_server: TlsServer, user: str, sslmode: str, cause: str
    ) -> None:
        error = diagnose(tls_server.dsn(user=user, password=PASSWORD, sslmode=sslmode))
        assert error.sqlstate == "28000"
        assert says(error, cause, "encryption to pg_hba.conf")


class TestNetwork:
    """No server, no address, and a server that does not answer."""

    def test_nothing_listens(self, diagnose: Diagnose, strict: PrivateServer, proxy: MakeProxy) -> None:
        dead = proxy(strict)
        dead.refuse()
        error = diagnose(app(strict, port=dead.port))
        assert says(error, f"127.0.0.1:{dead.port}.*Connection refused", "check host and port")

    def test_a_name_that_does_not_resolve(
        self, diagnose: Diagnose, strict: PrivateServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def getaddrinfo(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        # The real resolver may wait for a name server.
        monkeypatch.setattr(_resolve, "getaddrinfo", getaddrinfo)
        error = diagnose(app(strict, host="db.test"))
        assert says(error, "'db.test' does not resolve.*not known", "correct host")

    def test_a_server_that_says_nothing(
        self, diagnose: Diagnose, strict: PrivateServer, proxy: MakeProxy
    ) -> None:
        silent = proxy(strict)
        silent.hold()
        error = diagnose(app(strict, port=silent.port), connect_timeout=0.5)
        assert says(error, "no answer within 0.5 s", "firewall")

    def test_a_server_that_hangs_up(self, diagnose: Diagnose) -> None:
        with wrong_server(Script(startup=(Then.CLOSE,))) as curt:
            error = diagnose(curt.dsn())
        assert says(error, "closed the connection", "see the server's log")

    def test_what_answers_is_no_postgresql(self, diagnose: Diagnose) -> None:
        with wrong_server(Script(startup=(b"HTTP/1.1 400 Bad Request\r\n\r\n", Then.CLOSE))) as web:
            error = diagnose(web.dsn())
        assert says(error, "received H|not speak PostgreSQL", "check host and port")


@pytest.mark.slow
def test_a_server_that_shuts_down(diagnose: Diagnose, private_server: PrivateServer) -> None:
    ((held,),) = private_server.query("SELECT pg_read_file('postmaster.pid')")
    # A smart shutdown keeps the fixture's connection and refuses new ones.
    os.kill(int(held.split()[0]), signal.SIGTERM)
    error = diagnose(private_server.dsn(password=SECRET))
    assert error.sqlstate == "57P03"
    assert says(error, "the database system is shutting down", "wait: ")


@pytest.mark.slow
def test_a_standby(
    make_listener: MakeListener, make_connection: MakeConnection, standby_pair: StandbyPair
) -> None:
    events = Events()
    listener = make_listener(standby_pair.standby.dsn(), event_callback=events, min_reconnect_interval=60.0)
    # Before the first connection, so that its attempt fails.
    waiting = gevent.spawn(listener.listen, "orders")
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    ((_, error),) = events
    assert isinstance(error, ConnectionFailed)
    assert error.sqlstate == "25006"
    assert says(error, "cannot execute LISTEN during recovery", "name the primary")
    with pytest.raises(ServerError, match="cannot execute LISTEN during recovery"):
        make_connection(standby_pair.standby.dsn()).listen("orders", timeout=20)
    listener.close()
    with pytest.raises(ListenerClosed):
        waiting.get()


def test_a_channel_that_the_servers_encoding_lacks(
    make_listener: MakeListener, make_connection: MakeConnection, strict: PrivateServer
) -> None:
    for made in (make_listener(app(strict, dbname="latin")), make_connection(app(strict, dbname="latin"))):
        with pytest.raises(InvalidChannelName, match=r"漢.*LATIN1") as caught:
            made.listen("漢", timeout=20)
        assert isinstance(caught.value.__cause__, ServerError)
        assert caught.value.__cause__.sqlstate == "22P05"
        made.listen("größe", timeout=20)
        fence(made, "größe")


@pytest.mark.slow
def test_a_pooler_is_warned_of_once_in_a_listeners_life(
    make_listener: MakeListener,
    pgbouncer: StartPgBouncer,
    server: Server,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "pglisten.listener")
    pooler, events = pgbouncer("session"), Events()
    listener = make_listener(pooler.dsn(), event_callback=events, max_reconnect_interval=0.05)
    listener.listen("orders", timeout=20)
    fence(listener, "orders")
    for _ in range(3):
        pooler.kill()
        events.wait_for("CONNECTION_ATTEMPT_FAILED")
        pooler.start()
        assert listener.get(timeout=20) is None
        server.notify("orders", "after")
        item = listener.get(timeout=20)
        assert item is not None
        assert item.payload == "after"
    warnings = [record.getMessage() for record in caplog.records if "pooler" in record.getMessage()]
    assert len(warnings) == 1
    assert "connect to PostgreSQL itself" in warnings[0]
    make_listener(pooler.dsn()).wait_connected(20)
    assert caplog.text.count("a connection pooler is in between") == 2
