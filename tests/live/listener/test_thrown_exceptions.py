"""An exception that an application throws into a waiting call comes out unchanged and leaves nothing behind.

``gevent.Timeout(seconds, exception)``, ``Greenlet.kill(exception)`` and ``greenlet.throw`` raise it in the
middle of the wait, whatever its class: the library's own and its drivers' among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from pglisten import Broadcaster, ListenerConnection, load_backend
from pglisten._connection import resolve as _resolve
from pglisten._conninfo import ConnInfo
from pglisten.testing._proxy import UP
from support.fixtures.listeners import MakeConnection, MakeListener
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server
from support.programs.thrown_exceptions import THROWN_IN, throw_into
from support.servers.wrong_server import authentication

Place = tuple[str, Callable[[], object]]
"""A DSN, and a function that returns once a client waits there."""


@pytest.fixture(params=THROWN_IN)
def thrown(request: pytest.FixtureRequest) -> BaseException:
    return THROWN_IN[request.param]()


class SilentServer:
    """Accepts, answers each of the client's first messages with one of *replies*, and says nothing more."""

    def __init__(self, *replies: bytes) -> None:
        self._replies = replies
        self.waits = Event()
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        self.port: int = self._listening.getsockname()[1]
        self._serving = gevent.spawn(self._serve)

    def _serve(self) -> None:
        client, _ = self._listening.accept()
        with client:
            for reply in self._replies:
                client.recv(8192)
                client.sendall(reply)
            client.recv(8192)
            self.waits.set()
            while client.recv(8192):
                pass

    def close(self) -> None:
        self._serving.kill()
        self._listening.close()


def _turns() -> None:
    """Return after enough turns of the loop for a call to reach its wait."""
    for _ in range(20):
        gevent.idle()


def _black_hole(stack: ExitStack) -> Place:
    """A port whose queue of connections is full: further ones get no answer, not even a refusal."""
    listening = stack.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    for _ in range(4):
        filler = stack.enter_context(socket.socket())
        filler.setblocking(False)
        filler.connect_ex(listening.getsockname())
    return f"host=127.0.0.1 port={listening.getsockname()[1]} sslmode=disable", _turns


def _silent(
    *replies: bytes, settings: str = "sslmode=disable", hosts: int = 1
) -> Callable[[ExitStack], Place]:
    def place(stack: ExitStack) -> Place:
        servers = [SilentServer(*replies) for _ in range(hosts)]
        for server in servers:
            stack.callback(server.close)
        host, port = (
            ",".join(each) for each in zip(*[("127.0.0.1", str(s.port)) for s in servers], strict=True)
        )
        return f"host={host} port={port} {settings}", lambda: (servers[0].waits.wait(), _turns())

    return place


def _unresolved(stack: ExitStack) -> Place:
    """A name that is never resolved, as with a name server that is down."""
    go_on, patch = threading.Event(), stack.enter_context(pytest.MonkeyPatch.context())
    stack.callback(go_on.set)
    patch.setattr(_resolve, "getaddrinfo", lambda *_, **__: go_on.wait(60) and [])
    return "host=db.test sslmode=disable", _turns


_SASL = authentication(10, b"SCRAM-SHA-256\0\0")

PLACES: dict[str, Callable[[ExitStack], Place]] = {
    "black hole": _black_hole,
    "silent": _silent(),
    "silent, several hosts": _silent(hosts=3),
    "silent after SSLRequest": _silent(settings="sslmode=require"),
    "silent after SSLRequest, TLS preferred": _silent(settings="sslmode=prefer"),
    "silent in the TLS handshake": _silent(b"S", settings="sslmode=require"),
    "silent in authentication": _silent(_SASL),
    "unresolved": _unresolved,
}


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with ExitStack() as stack:
        dsn, reached = PLACES[request.param](stack)
        yield f"{dsn} user=app dbname=app password=s3cret", reached


@pytest.mark.sweep
def test_it_comes_out_of_a_connect(backend_name: str, place: Place, thrown: BaseException) -> None:
    dsn, reached = place
    throw_into(lambda: ListenerConnection(dsn, backend=backend_name), thrown, reached)


@pytest.mark.sweep
def test_it_comes_out_of_a_backend_itself(backend_name: str, place: Place, thrown: BaseException) -> None:
    dsn, reached = place
    backend, conninfo = load_backend(backend_name), ConnInfo.parse(dsn, {}).targets()[0]
    if conninfo.host == "db.test":
        return  # Names are the core's business.
    target = conninfo.at("127.0.0.1")
    throw_into(lambda: backend.connect(target, 20.0), thrown, reached)


def test_it_comes_out_of_a_drivers_own_error(backend_name: str) -> None:
    driver: Any = pytest.importorskip(backend_name)
    error: BaseException = driver.OperationalError("the application's own")
    with ExitStack() as stack:
        dsn, reached = _silent()(stack)
        backend = load_backend(backend_name)
        target = ConnInfo.parse(f"{dsn} user=app dbname=app", {}).at("127.0.0.1")
        throw_into(lambda: backend.connect(target, 20.0), error, reached)


@pytest.mark.parametrize("case", ["silent", "silent, several hosts", "black hole"])
def test_a_timeout_of_the_applications_ends_the_connect_when_it_is_due(backend_name: str, case: str) -> None:
    with ExitStack() as stack:
        dsn, _ = PLACES[case](stack)
        mine = THROWN_IN["_Mine"]()
        with pytest.raises(type(mine)) as caught, gevent.Timeout(0.2, mine):
            ListenerConnection(f"{dsn} user=app dbname=app", backend=backend_name, connect_timeout=3.0)
        assert caught.value is mine


CALLS: dict[str, Callable[[Any], object]] = {
    "execute": lambda x: x.execute("select 1"),
    "notify": lambda x: x.notify("x"),
    "ping": lambda x: x.ping(),
    "listen": lambda x: x.listen("x"),
    "unlisten": lambda x: x.unlisten("kept"),
    "unlisten_all": lambda x: x.unlisten_all(),
    "get": lambda x: x.get(),
    "iteration": lambda x: next(iter(x)),
    "wait_connected": lambda x: x.wait_connected(),
}


@pytest.mark.sweep
@pytest.mark.parametrize("call", set(CALLS) - {"wait_connected"})
def test_it_comes_out_of_every_call_of_a_connection(
    make_connection: MakeConnection, proxy: MakeProxy, server: Server, call: str, thrown: BaseException
) -> None:
    between = proxy(server)
    connection = make_connection(server.dsn(host=between.host, port=between.port))
    connection.listen("kept", timeout=20)
    between.hold(UP)
    throw_into(lambda: CALLS[call](connection), thrown, _turns)
    between.release()
    connection.notify("kept" if call not in ("unlisten", "unlisten_all") else "x", "alive", timeout=20)
    connection.ping(timeout=20)
    assert connection.connected


@pytest.mark.sweep
@pytest.mark.parametrize("call", set(CALLS) - {"execute"})
def test_it_comes_out_of_every_call_of_a_listener(
    make_listener: MakeListener, proxy: MakeProxy, server: Server, call: str, thrown: BaseException
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    listener.listen("kept", timeout=20)
    pid = listener.stats().server_pid
    between.hold(UP)
    if call == "wait_connected":
        waiting = gevent.spawn(listener.listen, "y")
        _turns()
    throw_into(lambda: CALLS[call](listener), thrown, _turns)
    between.release()
    if call == "wait_connected":
        waiting.get(timeout=20)
    listener.ping(timeout=20)
    assert listener.stats().server_pid == pid


def test_it_comes_out_of_a_close_that_waits_for_a_callback(
    make_listener: MakeListener, thrown: BaseException
) -> None:
    go_on = Event()
    listener = make_listener(event_callback=lambda *_: go_on.wait(20))
    listener.wait_connected(20)
    throw_into(lambda: listener.close(timeout=20), thrown, _turns)
    go_on.set()
    listener.close()


@pytest.mark.sweep
@pytest.mark.parametrize("call", ["subscribe", "get", "iteration"])
def test_it_comes_out_of_a_subscription(
    proxy: MakeProxy, server: Server, backend_name: str, call: str, thrown: BaseException
) -> None:
    between = proxy(server)
    dsn = server.dsn(host=between.host, port=between.port)
    with Broadcaster(dsn, backend=backend_name) as broadcaster:
        subscription = broadcaster.subscribe("x", timeout=20)
        between.hold(UP)
        if call == "subscribe":
            throw_into(lambda: broadcaster.subscribe("y"), thrown, _turns)
        else:
            throw_into(lambda: CALLS[call](subscription), thrown, _turns)
        between.release()
        server.notify("x", "alive")
        item = subscription.get(timeout=20)
        assert item is not None
        assert item.payload == "alive"
