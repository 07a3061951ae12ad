"""An attempt goes through hosts and addresses in order; servers in memory."""

from __future__ import annotations

import logging

import gevent
import pytest

from pglisten._connection import resolve as _resolve
from pglisten._connection.connect import ConnectAttempt, dial
from pglisten._conninfo import ConnInfo
from pglisten.backend import Session
from pglisten.errors import ConnectionFailed, ConnectionLost
from pglisten.testing import FakeBackend, FakeServer


class Network(FakeBackend):
    """Has servers by address, and refuses any other address. Records the addresses that were tried."""

    def __init__(self, **servers: FakeServer) -> None:
        super().__init__()
        self.servers = {name.replace("_", "."): server for name, server in servers.items()}
        self.visited: list[str] = []

    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
        self.visited.append(conninfo.hostaddr)
        if conninfo.hostaddr not in self.servers:
            raise ConnectionFailed(f"{conninfo.description}: connection refused")
        self.server = self.servers[conninfo.hostaddr]
        return super().connect(conninfo, timeout)


def _server(*, standby: bool = False) -> FakeServer:
    server = FakeServer()
    server.in_recovery = standby
    return server


def _conninfo(dsn: str) -> ConnInfo:
    return ConnInfo.parse(f"user=app {dsn}", {})


def test_addresses_are_shuffled_for_load_balancing_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (f"127.0.0.{number}", 1)) for number in range(1, 5)]
    monkeypatch.setattr(_resolve, "getaddrinfo", lambda *_, **__: found)

    def orders(dsn: str) -> set[tuple[str, ...]]:
        seen = set()
        for _ in range(50):
            network = Network()
            with pytest.raises(ConnectionFailed):
                dial(network, _conninfo(dsn), 1.0)
            seen.add(tuple(network.visited))
        return seen

    assert orders("host=db") == {("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")}
    assert len(orders("host=db load_balance_hosts=random")) > 2


def test_gevents_resolver_is_known_though_its_module_was_imported_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_resolve, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("127.0.0.7", 1))])
    again = type("Resolver", (), {"__module__": "gevent.resolver.thread"})  # It can resolve nothing.
    monkeypatch.setattr(gevent.get_hub(), "resolver", again())
    (found,) = _resolve.resolve(_conninfo("host=db"), 20)
    assert found.hostaddr == "127.0.0.7"


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_is_numeric_is_not_looked_up(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delattr(_resolve, "getaddrinfo")
    network = Network()
    with pytest.raises(ConnectionFailed, match="connection refused"):
        dial(network, _conninfo(f"host={host}"), 1.0)
    assert network.visited == [host]


def test_prefer_standby_tries_again_what_was_no_standby_and_nothing_else() -> None:
    network = Network(**{"10_0_0_2": _server(), "10_0_0_3": _server()})
    conninfo = _conninfo("hostaddr=10.0.0.1,10.0.0.2,10.0.0.3 target_session_attrs=prefer-standby")
    route = ConnectAttempt(network, conninfo, 1.0)
    route.next().close()
    assert network.visited == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.2"]


def test_a_standby_passed_over_is_not_tried_again_in_the_same_attempt() -> None:
    network = Network(**{"10_0_0_1": _server(standby=True), "10_0_0_2": _server()})
    conninfo = _conninfo("hostaddr=10.0.0.1,10.0.0.2 target_session_attrs=prefer-standby")
    route = ConnectAttempt(network, conninfo, 1.0)
    route.next().close()
    route.pass_over(ConnectionLost("cannot execute LISTEN during recovery", sqlstate="25006"))
    route.next().close()
    assert network.visited == ["10.0.0.1", "10.0.0.2", "10.0.0.2"]
    route.pass_over(ConnectionLost("cannot execute LISTEN during recovery", sqlstate="25006"))
    with pytest.raises(ConnectionFailed, match=r"10\.0\.0\.1.*10\.0\.0\.2") as caught:
        route.next()
    assert caught.value.sqlstate == "25006"


def test_what_is_not_suited_is_closed() -> None:
    server = _server()
    network = Network(**{"10_0_0_1": server})
    with pytest.raises(ConnectionFailed, match="the server is a primary, and target_session_attrs=standby"):
        dial(network, _conninfo("hostaddr=10.0.0.1 target_session_attrs=standby"), 1.0)
    assert server.sessions() == frozenset()


@pytest.mark.parametrize(("sqlstate", "visits"), [("28P01", 1), ("3D000", 1), ("53300", 2), ("57P03", 2)])
def test_what_is_wrong_everywhere_ends_the_attempt_and_nothing_else_does(sqlstate: str, visits: int) -> None:
    refusing = _server()
    refusing.refuse = ConnectionFailed("refused", sqlstate=sqlstate)
    network = Network(**{"10_0_0_1": refusing})
    with pytest.raises(ConnectionFailed) as caught:
        dial(network, _conninfo("hostaddr=10.0.0.1,10.0.0.2"), 1.0)
    assert (caught.value.sqlstate, len(network.visited)) == (sqlstate, visits)
    assert "remedy: " in str(caught.value)


def test_any_asks_the_server_nothing() -> None:
    server = _server()
    dial(Network(**{"10_0_0_1": server}), _conninfo("hostaddr=10.0.0.1"), 1.0).close()
    assert server.queries == []


def test_a_pooler_is_looked_for_where_asked_and_found_by_the_process_that_answers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = _server()
    network = Network(**{"10_0_0_1": server})
    conninfo = _conninfo("hostaddr=10.0.0.1")
    with caplog.at_level(logging.WARNING, "pglisten.listener"):
        dial(network, conninfo, 1.0, look_for_pooler=True).close()
        assert caplog.records == []
        connect = Network.connect

        def through_a_pooler(self: Network, conninfo: ConnInfo, timeout: float | None) -> Session:
            session = connect(self, conninfo, timeout)
            session.pid += 500_000
            return session

        monkeypatch.setattr(Network, "connect", through_a_pooler)
        dial(network, conninfo, 1.0, look_for_pooler=True).close()
    (record,) = caplog.records
    assert "a connection pooler is in between" in record.getMessage()
    assert "connect to PostgreSQL itself" in record.getMessage()
