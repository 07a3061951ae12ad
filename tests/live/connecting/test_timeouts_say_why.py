"""A call that waits in vain for a connection says why, with the number that its caller gave."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import gevent
import pytest

from pglisten import (
    Broadcaster,
    ConnectionFailed,
    ConnectionLost,
    Listener,
    ListenerConnection,
    OperationTimeout,
    sse,
)
from pglisten.testing import DOWN
from support.fixtures.listeners import Events, MakeListener
from support.fixtures.proxy import MakeProxy
from support.fixtures.tls import TlsServer
from support.fixtures.vault import raised
from support.servers.server import Server
from support.timeouts import TIMEOUT
from support.timing import hold_before

SECRET = "must-not-be-shown"

Waits = Callable[[float], object]


@pytest.fixture
def ways(backend_name: str) -> Iterator[Callable[[str], dict[str, Waits]]]:
    """Return a function that returns, by name, all calls that wait for a connection to a DSN."""
    with ExitStack() as stack:

        def ways(dsn: str) -> dict[str, Waits]:
            listener = stack.enter_context(
                Listener(
                    dsn, backend=backend_name, min_reconnect_interval=3600.0, max_reconnect_interval=3600.0
                )
            )
            broadcaster = stack.enter_context(Broadcaster(dsn, backend=backend_name))
            return {
                "LISTEN 'a': not done": lambda timeout: listener.listen("a", timeout),
                "not connected (backing off)": listener.wait_connected,
                "LISTEN 'b', 'c': not done": lambda timeout: broadcaster.subscribe("b", "c", timeout=timeout),
            }

        yield ways


def _late(call: Waits, timeout: float) -> OperationTimeout:
    with pytest.raises(OperationTimeout) as caught:
        call(timeout)
    return caught.value


def test_a_closed_port_is_named(
    ways: Callable[[str], dict[str, Waits]], server: Server, proxy: MakeProxy
) -> None:
    dead = proxy(server)
    dead.refuse()
    for what, call in ways(server.dsn(port=dead.port, password=SECRET)).items():
        error = _late(call, 0.3)
        assert str(error).startswith(f"{what} within 0.3 s: 127.0.0.1:{dead.port}/")
        assert re.search(r"[Cc]onnection refused.*\(remedy: check host and port", str(error))
        assert isinstance(error.__cause__, ConnectionFailed)
        assert SECRET not in str(error)


def test_a_wrong_password_is_named(ways: Callable[[str], dict[str, Waits]], auth_server: TlsServer) -> None:
    for what, call in ways(auth_server.login("scram-sha-256", password=SECRET)).items():
        error = _late(call, 1)
        assert str(error).startswith(f"{what} within 1 s: ")
        assert isinstance(error.__cause__, ConnectionFailed)
        assert error.__cause__.sqlstate == "28P01"
        assert SECRET not in str(error)


def test_an_outage_that_is_over_is_not(make_listener: MakeListener, server: Server, proxy: MakeProxy) -> None:
    between, events = proxy(server), Events()
    between.refuse()
    listener = make_listener(server.dsn(port=between.port), event_callback=events)
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    between.accept()
    listener.wait_connected(TIMEOUT)
    assert isinstance(listener.stats().last_error, ConnectionFailed)
    between.hold(DOWN)
    for call in (lambda timeout: listener.listen("a", timeout), listener.ping):
        error = _late(call, 0.05)
        assert str(error) in {
            "LISTEN 'a': not done within 0.05 s",
            "ping: no answer within 0.05 s",
            "ping: not done within 0.05 s",
        }
        assert not isinstance(error.__cause__, ConnectionFailed)
    between.release()


def test_before_the_first_attempt_after_it_a_loss_is(make_listener: MakeListener, server: Server) -> None:
    events = Events()
    listener = make_listener(
        event_callback=events, min_reconnect_interval=3600.0, max_reconnect_interval=3600.0
    )
    listener.wait_connected(TIMEOUT)
    # Lost before it has lived for the minimum: no attempt follows for an hour.
    assert server.terminate(listener.stats().server_pid or 0)
    events.wait_for("DISCONNECTED")
    error = _late(lambda timeout: listener.listen("a", timeout), 0.02)
    assert str(error).startswith("LISTEN 'a': not done within 0.02 s: ")
    assert isinstance(error.__cause__, ConnectionLost)
    assert error.__cause__.sqlstate == "57P01"


def test_a_refused_stream_is_logged_with_the_reason(
    server: Server, proxy: MakeProxy, backend_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    dead = proxy(server)
    dead.refuse()
    with Broadcaster(server.dsn(port=dead.port, password=SECRET), backend=backend_name) as broadcaster:
        app = sse.app(broadcaster, lambda environ, channel: True, timeout=0.3)
        environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": "channel=orders"}
        statuses: list[str] = []
        app(environ, lambda status, headers, exc_info=None: statuses.append(status))  # type: ignore[arg-type]
    assert statuses == ["503 Service Unavailable"]
    (said,) = [record.getMessage() for record in caplog.records if record.name == "pglisten.sse"]
    assert said.startswith("event streams are refused: LISTEN 'orders': not done within 0.3 s: 127.0.0.1:")
    assert "connection refused" in said.lower()
    assert SECRET not in caplog.text


def test_a_number_in_a_message_is_the_callers(make_listener: MakeListener) -> None:
    listener = make_listener()
    listener.wait_connected(TIMEOUT)
    assert str(_late(listener.get, 0.3)) == "no notification within 0.3 s"
    assert str(_late(listener.get, 0)) == "no notification within 0 s"


def test_so_is_that_of_a_broadcasters_first_call(server: Server, proxy: MakeProxy, backend_name: str) -> None:
    between = proxy(server)
    with Broadcaster(server.dsn(port=between.port), backend=backend_name) as broadcaster:
        broadcaster.wait_connected(TIMEOUT)
        between.hold(DOWN)
        assert str(_late(lambda timeout: broadcaster.notify("a", "", timeout), 0.2)).endswith(
            "NOTIFY 'a': not done within 0.2 s"
        )
        assert " within 0.2 s" in str(_late(broadcaster.ping, 0.2))
        between.release()


def test_so_is_that_of_the_first_query_of_a_connection(
    server: Server, proxy: MakeProxy, backend_name: str
) -> None:
    between = proxy(server)
    connecting = gevent.spawn(
        raised, ListenerConnection, server.dsn(port=between.port), backend=backend_name, connect_timeout=1.5
    )
    hold_before(between, b"pg_backend_pid")
    failed = connecting.get(timeout=TIMEOUT)
    assert isinstance(failed, ConnectionFailed)
    assert "the server did not answer a query within 1.5 s (remedy: " in str(failed)


def test_so_is_that_of_a_heartbeat_without_an_answer(
    make_listener: MakeListener, server: Server, proxy: MakeProxy
) -> None:
    between, events = proxy(server), Events()
    options = {"heartbeat_interval": 0.3, "heartbeat_timeout": 0.4, "event_callback": events}
    listener = make_listener(server.dsn(port=between.port), **options)
    listener.wait_connected(TIMEOUT)
    between.drop(DOWN)
    events.wait_for("CONNECTED", "DISCONNECTED")
    assert str(events[-1][1]) == "heartbeat failed: the server did not answer a query within 0.4 s"
