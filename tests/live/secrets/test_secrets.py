"""No password shows anywhere, whatever it is from and whatever goes wrong, and no payload is logged.

The fixture ``searched`` fails a test that has left a secret somewhere: see tests/support/fixtures/secrets.py.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import gevent
import pytest

import pglisten
from pglisten import Broadcaster, Listener, ListenerConnection, ListenerEvent, load_backend
from pglisten._conninfo import ConnInfo
from pglisten.backend import Session
from pglisten.testing import DOWN, Proxy
from support.fixtures.listeners import Events, MakeConnection, MakeListener
from support.fixtures.proxy import MakeProxy
from support.fixtures.secrets import MARK, PAYLOAD, PAYLOAD_MARK, Searched
from support.fixtures.vault import METHODS, STRANGER, Reach, raised
from support.servers.server import PrivateServer
from support.servers.wrong_server import Script, Then, authentication, error, wrong_server
from support.timing import hold_before

pytestmark = pytest.mark.slow  # Hundreds of mistakes and moments: on one Python.


def look_at(searched: Searched, made: Listener | ListenerConnection, dsn: str) -> None:
    """Show everything that is public, and what it is made of."""
    link = made._connection if isinstance(made, ListenerConnection) else made._supervisor.connection
    assert link is not None
    backend, info = load_backend(made.backend), ConnInfo.parse(dsn, os.environ)
    searched.show(made, link, link._loop._session, backend, backend.description(), info, info.with_password())
    searched.show(info.description, info.with_password().password_source, info.targets())
    if isinstance(made, Listener):
        searched.show(made._supervisor, made._supervisor._settings, made.stats())


def be_refused(searched: Searched, made: Listener | ListenerConnection) -> None:
    """Have channels and payloads refused, before they are sent and by the server."""
    made.notify("x", PAYLOAD, timeout=20)
    item = made.get(timeout=20)
    assert item is not None
    assert item.payload == PAYLOAD
    searched.error(raised(made.listen, "ключ"))
    searched.error(raised(made.listen, "x"))
    searched.error(raised(made.get, 0))
    for payload in (f"{PAYLOAD} ключ", PAYLOAD * 1000, f"{PAYLOAD}\0", f"{PAYLOAD}\ud800"):
        searched.error(raised(made.notify, "x", payload))


def test_a_listener_shows_none_from_its_first_connection_to_its_end(
    searched: Searched, make_listener: MakeListener, proxy: MakeProxy, vault: PrivateServer, reach: Reach
) -> None:
    between, events = proxy(vault), Events()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        searched.show(event, error)
        events(event, error)
        raise ValueError(event, error)

    dsn = reach(port=between.port)
    listener = make_listener(dsn, event_callback=callback)
    listener.listen("x", timeout=20)
    look_at(searched, listener, dsn)
    be_refused(searched, listener)
    between.hold(DOWN)
    asked = between.queries
    notifying = gevent.spawn(raised, listener.notify, "x", PAYLOAD, 20)
    between.wait_until(lambda: between.queries > asked)
    between.cut()
    between.release()
    searched.error(notifying.get(timeout=20))
    events.wait_for("DISCONNECTED", "RECONNECTED")
    between.refuse()
    vault.terminate(listener.stats().server_pid or 0)
    events.wait_for("DISCONNECTED", "CONNECTION_ATTEMPT_FAILED")
    searched.error(raised(listener.notify, "x", PAYLOAD))
    searched.show(listener, listener.stats())
    listener.close()
    searched.error(raised(listener.notify, "x", PAYLOAD))
    searched.show(listener, listener.stats())


def test_a_single_connection_shows_none_by_whatever_method_it_logs_in(
    searched: Searched, make_connection: MakeConnection, vault: PrivateServer, reach: Reach
) -> None:
    for method in METHODS:
        dsn = reach(method=method)
        connection = make_connection(dsn)
        connection.listen("x", timeout=20)
        look_at(searched, connection, dsn)
        be_refused(searched, connection)
        vault.terminate(connection.server_pid)
        lost = raised(connection.notify, "x", PAYLOAD)
        assert isinstance(lost, pglisten.ConnectionLost)
        searched.error(lost)
        searched.show(connection, connection.error)


def _late(session: Session, _: Proxy) -> None:
    session.execute(f"SELECT '{PAYLOAD_MARK}'", 0.1)


def _cut(session: Session, between: Proxy) -> None:
    gevent.spawn(between.cut)
    session.execute(f"SELECT '{PAYLOAD_MARK}'", 20)


@pytest.mark.parametrize("password_name", ["odd"], indirect=True)
@pytest.mark.parametrize("call", [_late, _cut], ids=["late", "cut"])
def test_what_led_to_the_loss_of_a_session_does_not_hold_the_statement(
    searched: Searched,
    proxy: MakeProxy,
    vault: PrivateServer,
    reach: Reach,
    backend_name: str,
    call: Callable[[Session, Proxy], None],
) -> None:
    between = proxy(vault)
    target = ConnInfo.parse(reach(port=between.port), os.environ).with_password().targets()[0]
    session = load_backend(backend_name).connect(target.at("127.0.0.1"), 20)
    try:
        between.drop()
        lost = raised(call, session, between)
        assert isinstance(lost, pglisten.ConnectionLost)
        searched.error(lost)
        searched.show(session)
    finally:
        session.close()


@pytest.mark.parametrize("password_name", ["odd"], indirect=True)
def test_a_broadcaster_and_its_subscriptions_show_none(
    searched: Searched, vault: PrivateServer, reach: Reach, backend_name: str
) -> None:
    def callback(event: ListenerEvent, error: Exception | None) -> None:
        searched.show(event, error)

    dsn = reach()
    with Broadcaster(
        dsn, backend=backend_name, min_reconnect_interval=0.02, event_callback=callback
    ) as broadcaster:
        full = broadcaster.subscribe("x", queue_size=1, overflow="close", timeout=20)
        subscription = broadcaster.subscribe("x", timeout=20)
        for _ in range(3):
            broadcaster.notify("x", PAYLOAD, timeout=20)
            assert subscription.get(timeout=20)
        searched.error(raised(lambda: [full.get(timeout=20) for _ in range(4)]))
        searched.error(raised(broadcaster.subscribe, "ключ"))
        searched.error(raised(broadcaster.notify, "x", f"{PAYLOAD} ключ"))
        searched.show(broadcaster, full, subscription, broadcaster.stats())
        vault.terminate(broadcaster.stats().server_pid or 0)
        assert subscription.get(timeout=20) is None
        searched.show(broadcaster, subscription, broadcaster.stats())
    searched.error(raised(subscription.get))
    searched.error(raised(broadcaster.notify, "x", PAYLOAD))
    searched.show(broadcaster, subscription, broadcaster.stats())


FAILURES: dict[str, dict[str, object]] = {
    "a wrong password": {"user": STRANGER},
    "a wrong database": {"dbname": "nowhere"},
    "nobody there": {"port": 1},
    "a name that does not resolve": {"host": "no-such-host.invalid"},
    "no TLS": {"sslmode": "require"},
    "no TLS to bind to": {"channel_binding": "require"},
    "two hosts, and neither will do": {"host": "127.0.0.1,127.0.0.1", "port": "1,2"},
}

STARTS: dict[str, tuple[bytes | Then, ...]] = {
    "another protocol": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", Then.CLOSE),
    "an end once the password was sent": (authentication(3), Then.CLOSE),
    "nonsense once the password was sent": (authentication(3) + b"R\0\0\0\x05\xff", Then.CLOSE),
    "a challenge that is none": (
        authentication(10, b"SCRAM-SHA-256\0\0") + authentication(11, b"r="),
        Then.CLOSE,
    ),
    "another challenge": (authentication(5, b"salt") + error("FATAL", "28P01", "no \xff"), Then.CLOSE),
    "silence": (authentication(3), Then.HOLD),
}


@pytest.fixture
def wrong_ports() -> Iterator[dict[str, int]]:
    """What each of these wrong servers listens to."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(wrong_server(Script(startup=start))).port
            for name, start in STARTS.items()
        }


def test_no_failed_attempt_shows_one(
    searched: Searched,
    make_connection: MakeConnection,
    make_listener: MakeListener,
    reach: Reach,
    wrong_ports: dict[str, int],
) -> None:
    wrong = {name: {"port": port} for name, port in wrong_ports.items()}
    for name, changes in (FAILURES | wrong).items():
        dsn, events, limit = reach(**changes), Events(), 0.1 if name == "silence" else 20.0
        failed = raised(functools.partial(make_connection, dsn, connect_timeout=limit))
        assert isinstance(failed, pglisten.ConnectionFailed)
        searched.error(failed)
        with make_listener(dsn, connect_timeout=limit, event_callback=events) as listener:
            events.wait_for("CONNECTION_ATTEMPT_FAILED")
            searched.show(listener, listener.stats(), *events[0])
            searched.error(raised(listener.wait_connected, 0))
            searched.error(raised(listener.notify, "x", PAYLOAD))


def _silent(between: Proxy) -> None:
    between.drop()
    between.wait_until(lambda: bool(between.bytes_up))


def _password_sent(between: Proxy) -> None:
    hold_before(between, MARK.encode())


def _first_question(between: Proxy) -> None:
    hold_before(between, b"pg_backend_pid")


@pytest.mark.parametrize(
    "moment", [_silent, _password_sent, _first_question], ids=lambda each: each.__name__[1:]
)
@pytest.mark.parametrize("password_name", ["odd"], indirect=True)
def test_no_dial_that_is_killed_shows_one(
    searched: Searched,
    make_connection: MakeConnection,
    make_listener: MakeListener,
    proxy: MakeProxy,
    vault: PrivateServer,
    reach: Reach,
    moment: Callable[[Proxy], None],
) -> None:
    for end in (gevent.GreenletExit(), gevent.Timeout()):
        between = proxy(vault)
        dsn = reach(port=between.port, method="password")
        dialling = gevent.spawn(raised, make_connection, dsn)
        moment(between)
        dialling.kill(end)
        assert dialling.value is end
        searched.show(dialling)
        searched.error(end)
    between, events = proxy(vault), Events()
    listener = make_listener(reach(port=between.port, method="password"), event_callback=events)
    moment(between)
    searched.show(listener, listener.stats())
    searched.error(raised(listener.wait_connected, 0))
    listener.close()
    searched.show(listener, listener.stats(), *events)
