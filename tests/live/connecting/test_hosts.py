"""Several hosts, several addresses of a name, and name services that fail or are slow."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from pglisten import ConnectionFailed, ListenerClosed, OperationTimeout
from pglisten._connection import resolve as _resolve
from support.fixtures.listeners import MakeConnection, MakeListener
from support.fixtures.proxy import MakeProxy
from support.fixtures.standby import StandbyPair
from support.servers.server import Server
from support.timing import wait_for_a_failed_attempt


@pytest.fixture
def name_service(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Addresses by name, for a test to fill in: a name service of the test."""
    names: dict[str, list[str]] = {}
    real = _resolve.getaddrinfo

    def getaddrinfo(host: str, port: int, **options: object) -> list[tuple[object, ...]]:
        if host not in names:
            return list(real(host, port, **options))
        if not names[host]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in names[host]]

    monkeypatch.setattr(_resolve, "getaddrinfo", getaddrinfo)
    return names


def _dsn(server: Server, hosts: str, ports: object, **keywords: object) -> str:
    return server.dsn(host=hosts, port=ports, application_name="hosts", **keywords)


def test_a_host_that_refuses_is_followed_by_the_next(
    make_connection: MakeConnection, server: Server, proxy: MakeProxy
) -> None:
    dead = proxy(server)
    dead.refuse()
    port = server.keywords["port"]
    connection = make_connection(_dsn(server, "127.0.0.1,127.0.0.1", f"{dead.port},{port}"))
    connection.listen("orders", timeout=20)
    assert server.sessions("hosts") == 1


def test_a_silent_host_has_a_connect_timeout_of_its_own(
    make_connection: MakeConnection, server: Server, proxy: MakeProxy
) -> None:
    silent = proxy(server)
    silent.hold()
    ports = f"{silent.port},{silent.port},{server.keywords['port']}"
    # If all addresses shared one timeout, no time would be left for the third.
    connection = make_connection(_dsn(server, "127.0.0.1,127.0.0.1,127.0.0.1", ports), connect_timeout=1.0)
    connection.ping(timeout=20)


def test_when_none_will_do_the_error_names_each_and_what_to_do(
    make_connection: MakeConnection, server: Server, proxy: MakeProxy, name_service: dict[str, list[str]]
) -> None:
    dead = proxy(server)
    dead.refuse()
    name_service["nowhere.test"] = []
    with pytest.raises(ConnectionFailed) as caught:
        make_connection(_dsn(server, "127.0.0.1,nowhere.test", f"{dead.port},{dead.port}"))
    text = str(caught.value)
    assert f"127.0.0.1:{dead.port}/" in text
    assert "refused" in text.lower()
    assert "'nowhere.test' does not resolve" in text
    assert text.count("(remedy: ") == 2


def test_a_wrong_database_is_tried_on_no_other_host(
    make_connection: MakeConnection, server: Server, proxy: MakeProxy
) -> None:
    other = proxy(server)
    ports = f"{server.keywords['port']},{other.port}"
    with pytest.raises(ConnectionFailed) as caught:
        make_connection(_dsn(server, "127.0.0.1,127.0.0.1", ports, dbname="no_such"))
    assert caught.value.sqlstate == "3D000"
    assert other.connections == 0


def test_a_name_of_several_addresses_is_tried_at_each(
    make_connection: MakeConnection, server: Server, name_service: dict[str, list[str]]
) -> None:
    name_service["db.test"] = ["127.0.0.77", "127.0.0.1"]
    connection = make_connection(_dsn(server, "db.test", server.keywords["port"]))
    connection.ping(timeout=20)


def test_names_are_resolved_again_for_each_attempt(
    make_listener: MakeListener, server: Server, name_service: dict[str, list[str]]
) -> None:
    name_service["db.test"] = []
    listener = make_listener(_dsn(server, "db.test", server.keywords["port"]))
    wait_for_a_failed_attempt(listener)
    with pytest.raises(OperationTimeout) as caught:
        listener.wait_connected(0)
    assert "does not resolve" in str(caught.value.__cause__)
    name_service["db.test"] = ["127.0.0.1"]
    listener.wait_connected(20)


@pytest.fixture
def stuck_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Make the system's resolver wait in its thread, as with a name server that is down.

    The event is set when a thread waits.
    """
    asked, go_on = Event(), threading.Event()
    notify = gevent.get_hub().loop.async_()
    notify.start(asked.set)

    def wait(*_: object, **__: object) -> None:
        notify.send()
        go_on.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(_resolve, "getaddrinfo", wait)
    yield asked
    go_on.set()
    notify.close()


def test_a_slow_resolver_does_not_hold_up_the_hub(
    make_connection: MakeConnection, server: Server, stuck_resolver: Event
) -> None:
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            gevent.sleep(0.01)

    ticker = gevent.spawn(tick)
    with pytest.raises(ConnectionFailed, match=r"not resolved within 0.5 s"):
        make_connection(_dsn(server, "db.test", server.keywords["port"]), connect_timeout=0.5)
    ticker.kill()
    assert ticks > 10


def test_close_does_not_wait_for_a_slow_resolver(
    make_listener: MakeListener, server: Server, stuck_resolver: Event
) -> None:
    listener = make_listener(_dsn(server, "db.test", server.keywords["port"]), connect_timeout=60.0)
    assert stuck_resolver.wait(20)
    waiter = gevent.spawn(listener.wait_connected)
    gevent.idle()
    started = time.monotonic()
    listener.close()
    assert time.monotonic() - started < 1
    with pytest.raises(ListenerClosed):
        waiter.get()


def test_hosts_are_tried_in_the_order_given(
    make_connection: MakeConnection, server: Server, proxy: MakeProxy
) -> None:
    first, second = proxy(server), proxy(server)
    for _ in range(8):
        make_connection(_dsn(server, "127.0.0.1,127.0.0.1", f"{first.port},{second.port}")).close()
    assert (first.connections, second.connections) == (8, 0)


def test_load_balancing_takes_the_hosts_by_chance(
    make_connection: MakeConnection, server: Server, proxy: MakeProxy
) -> None:
    first, second = proxy(server), proxy(server)
    dsn = _dsn(server, "127.0.0.1,127.0.0.1", f"{first.port},{second.port}", load_balance_hosts="random")
    # By chance it takes longer once in a billion billions.
    for _ in range(60):
        make_connection(dsn).close()
        if first.connections and second.connections:
            break
    assert first.connections
    assert second.connections


class TestTargetSessionAttributes:
    """The server of a pair that is taken, and a listener there."""

    @pytest.mark.slow
    def test_each_value_leads_where_it_says(
        self, make_connection: MakeConnection, standby_pair: StandbyPair
    ) -> None:
        primary, standby = standby_pair.primary, standby_pair.standby
        expected = {
            "any": primary,
            "read-write": primary,
            "read-only": standby,
            "primary": primary,
            "standby": standby,
            "prefer-standby": standby,
        }
        found = {}
        for value in expected:
            connection = make_connection(standby_pair.dsn(target_session_attrs=value, application_name=value))
            connection.ping(timeout=20)
            (found[value],) = (server for server in standby_pair.servers if server.sessions(value))
        assert found == expected

    @pytest.mark.slow
    def test_what_is_nowhere_to_be_found_is_said(
        self, make_connection: MakeConnection, standby_pair: StandbyPair
    ) -> None:
        standby_pair.standby.stop()
        with pytest.raises(
            ConnectionFailed, match="the server is a primary, and target_session_attrs=standby"
        ):
            make_connection(standby_pair.dsn(target_session_attrs="standby"))
        make_connection(standby_pair.dsn(target_session_attrs="prefer-standby")).ping(timeout=20)

    def test_a_primary_that_is_read_only_is_none_for_read_write(
        self, make_connection: MakeConnection, server: Server
    ) -> None:
        options = "-c default_transaction_read_only=on"
        with pytest.raises(
            ConnectionFailed, match="the server is read-only, and target_session_attrs=read-write"
        ):
            make_connection(server.dsn(target_session_attrs="read-write", options=options))
        # LISTEN works, because it writes nothing.
        connection = make_connection(server.dsn(target_session_attrs="read-only", options=options))
        connection.listen("orders", timeout=20)
