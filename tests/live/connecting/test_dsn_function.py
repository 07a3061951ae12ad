"""A function in place of a connection string, with a server on which passwords and users change."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pglisten.errors import ConnectionFailed
from support.fixtures.listeners import Events, MakeListener, fence
from support.fixtures.tls import SCRAM_GROUP, TlsServer
from support.servers.server import Server
from support.timeouts import TIMEOUT

Vault = Callable[[], tuple[str, str]]


@pytest.fixture
def new_user(auth_server: TlsServer) -> Iterator[Vault]:
    """Return a function that makes a user for scram-sha-256 and returns name and password, as Vault does."""
    made: list[str] = []

    def make() -> tuple[str, str]:
        name, password = f"scram_user_{secrets.token_hex(4)}", secrets.token_hex(8)
        auth_server.query(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {SCRAM_GROUP}")
        made.append(name)
        return name, password

    yield make
    for name in made:
        auth_server.query(f"DROP ROLE {name}")


def test_a_password_that_changes_while_the_listener_is_away_counts_at_the_next_attempt(
    make_listener: MakeListener, auth_server: TlsServer
) -> None:
    given = auth_server.login("scram-sha-256"), auth_server.login("scram-sha-256", password="expired")
    answers = iter([given[0], given[1], given[0]])
    events = Events()
    options: dict[str, Any] = {"event_callback": events}
    listener = make_listener(lambda: next(answers), **options)
    listener.listen("orders", timeout=TIMEOUT)
    assert auth_server.terminate(listener.stats().server_pid or 0)
    assert listener.get(timeout=TIMEOUT) is None
    assert events.names == ["CONNECTED", "DISCONNECTED", "CONNECTION_ATTEMPT_FAILED", "RECONNECTED"]
    error = events[2][1]
    assert isinstance(error, ConnectionFailed)
    assert error.sqlstate == "28P01"
    fence(listener, "orders")


def test_the_user_may_change_with_each_attempt(
    make_listener: MakeListener, auth_server: TlsServer, new_user: Vault
) -> None:
    users: list[str] = []

    def dsn() -> str:
        user, password = new_user()
        users.append(user)
        return auth_server.login("trust", user=user, password=password)

    listener = make_listener(dsn)
    for _ in range(2):
        listener.wait_connected(TIMEOUT)
        pid = listener.stats().server_pid or 0
        query = "SELECT usename::text FROM pg_stat_activity WHERE pid = %s"
        assert auth_server.query(query, pid) == [(users[-1],)]
        assert auth_server.terminate(pid)
        assert listener.get(timeout=TIMEOUT) is None
    listener.close()


def test_a_session_is_called_pglisten_unless_something_else_says_what_it_is(
    make_listener: MakeListener, server: Server
) -> None:
    names = {
        server.dsn(): "pglisten",
        server.dsn(application_name="shop"): "shop",
        server.dsn(fallback_application_name="shop"): "shop",
        server.dsn(options="-c application_name=shop"): "shop",
    }
    for dsn, name in names.items():
        listener = make_listener(dsn)
        listener.wait_connected(TIMEOUT)
        assert listener.stats().server_pid in server.pids(name), dsn
