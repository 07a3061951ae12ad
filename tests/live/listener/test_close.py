"""close() ends a listener within a second in every state, and leaves nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import pytest
from gevent import monkey
from gevent.event import Event

import pglisten
from pglisten import Listener, ListenerEvent
from pglisten._listener.states import State
from pglisten._threads import MOST
from pglisten.backend import in_thread
from pglisten.testing import Proxy
from pglisten.testing._proxy import DOWN, UP
from support.fixtures.listeners import Events, MakeListener
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server
from support.fixtures.tls import TlsServer
from support.timing import hold_before, stopwatch

PROMISE = 1.0
"""Seconds that close() takes at the most."""


class Scene:
    """A listener, the network before it, and the greenlets that wait for it."""

    def __init__(self, make_listener: MakeListener, between: Proxy, server: Server) -> None:
        self.between = between
        self.server = server
        self.events = Events()
        self.calls: list[gevent.Greenlet[..., Any]] = []
        self.cleanup = contextlib.ExitStack()
        self._make = make_listener
        self.listener: Listener

    def make(self, *, host: str | None = None, **options: Any) -> Listener:
        options.setdefault("event_callback", self.events)
        dsn = self.server.dsn(host=host or self.between.host, port=self.between.port)
        self.listener = self._make(dsn, **options)
        return self.listener

    def connect(self, **options: Any) -> Listener:
        self.make(**options).wait_connected(20)
        return self.listener

    def wait(self, *calls: Callable[[], object]) -> None:
        """Run each of these calls in a greenlet of its own."""
        self.calls += [gevent.spawn(_outcome, call) for call in calls]
        gevent.idle()

    def wait_for_a_connection(self) -> None:
        """Run every call that can wait."""
        listener = self.listener
        self.wait(lambda: listener.listen("x"), listener.wait_connected, listener.get, lambda: [*listener])


def _outcome(call: Callable[[], object]) -> object:
    # Raised in a greenlet, an error would be printed as well.
    try:
        return call()
    except pglisten.Error as error:
        return error


def _silent_server(scene: Scene) -> None:
    scene.between.drop()
    scene.make(connect_timeout=60.0)
    scene.between.wait_until(lambda: scene.between.connections == 1)
    scene.wait_for_a_connection()


def _authentication_held(scene: Scene) -> None:
    scene.between.hold(DOWN)
    scene.make(connect_timeout=60.0)
    scene.between.wait_until(lambda: bool(scene.between.held(DOWN)))
    scene.wait_for_a_connection()


def _first_question_held(scene: Scene) -> None:
    scene.make(connect_timeout=60.0)
    hold_before(scene.between, b"pg_backend_pid")
    scene.wait_for_a_connection()


def _resolver_held(scene: Scene) -> None:
    # Names are resolved in threads, as many as there may be, and each of them is busy.
    gate = monkey.get_original("_thread", "allocate_lock")()
    gate.acquire()
    busy: list[None] = []

    def work() -> None:
        busy.append(None)
        with gate:
            pass

    for _ in range(MOST):
        scene.cleanup.callback(gevent.spawn(in_thread, work, None).join)
    scene.cleanup.callback(gate.release)
    while len(busy) < MOST:  # A thread that still ends would leave its place to the resolver.
        gevent.sleep(0.001)
    scene.make(host="localhost", connect_timeout=60.0)
    scene.wait_for_a_connection()
    assert scene.between.connections == 0


def _listen_held(scene: Scene) -> None:
    # Hold from the beginning: while the callers start, the LISTEN could slip through.
    scene.between.hold(UP)
    scene.make()
    scene.wait_for_a_connection()
    hold_before(scene.between, b"LISTEN")


def _listen_again_held(scene: Scene) -> None:
    scene.connect().listen("x", timeout=20)
    gevent.spawn(scene.between.cut)
    hold_before(scene.between, b"LISTEN")
    scene.wait(scene.listener.wait_connected, lambda: scene.listener.listen("y"), scene.listener.get)


def _idle(scene: Scene) -> None:
    listener = scene.connect()
    scene.wait(listener.get, lambda: [*listener])


def _queue_full(scene: Scene) -> None:
    listener = scene.connect(queue_size=1)
    listener.listen("full", timeout=20)
    scene.server.query(
        "select count(pg_notify('full', i || repeat('x', 500))) from generate_series(1, 3000) i"
    )
    assert listener.get(timeout=20) is not None


def _commands_in_flight(scene: Scene) -> None:
    listener = scene.connect()
    listener.listen("x", timeout=20)
    scene.between.hold(DOWN)
    scene.wait(
        *(lambda: listener.listen("y"), listener.ping, lambda: listener.notify("x")),
        *(lambda: listener.unlisten("x"), listener.get, listener.wait_connected),
    )


def _only_a_ping_in_flight(scene: Scene) -> None:
    listener = scene.connect()
    scene.between.hold(DOWN)
    scene.wait(listener.ping)


def _link_frozen(scene: Scene) -> None:
    listener = scene.connect()
    scene.between.stall()
    scene.wait(*[lambda: listener.notify("x", "x" * 7000) for _ in range(100)], listener.get)


def _callback_running(scene: Scene) -> None:
    def callback(event: ListenerEvent, error: Exception | None) -> None:
        scene.events(event, error)
        Event().wait()

    scene.connect(event_callback=callback)
    scene.events.wait_for("CONNECTED")
    scene.wait(scene.listener.get)


def _callback_that_swallows_its_end(scene: Scene) -> None:
    stop = Event()

    def callback(event: ListenerEvent, error: Exception | None) -> None:
        scene.events(event, error)
        while not stop.is_set():
            with contextlib.suppress(BaseException):
                stop.wait()

    scene.cleanup.callback(gevent.idle)
    scene.cleanup.callback(stop.set)
    scene.connect(event_callback=callback)
    scene.events.wait_for("CONNECTED")


def _lost_early(scene: Scene) -> None:
    scene.connect(min_reconnect_interval=60.0)
    scene.between.cut()
    scene.events.wait_for("CONNECTED", "DISCONNECTED")
    scene.wait_for_a_connection()


def _refused(scene: Scene) -> None:
    scene.between.refuse()
    scene.make(min_reconnect_interval=60.0)
    scene.events.wait_for("CONNECTION_ATTEMPT_FAILED")
    scene.wait_for_a_connection()


def _closed(scene: Scene) -> None:
    scene.connect().close()


@dataclass(frozen=True)
class Situation:
    """How to bring a listener into each state, and how often its callback is called at the end."""

    state: State
    reach: Callable[[Scene], None]
    ends: int = field(default=0)


SITUATIONS = {
    situation.reach.__name__.lstrip("_"): situation
    for situation in (
        *(Situation(State.DIALLING, _silent_server), Situation(State.DIALLING, _authentication_held)),
        *(Situation(State.DIALLING, _first_question_held), Situation(State.DIALLING, _resolver_held)),
        *(Situation(State.LISTENING, _listen_held), Situation(State.LISTENING, _listen_again_held)),
        *(Situation(State.CONNECTED, _idle, 1), Situation(State.CONNECTED, _queue_full, 1)),
        Situation(State.CONNECTED, _commands_in_flight, 1),
        Situation(State.CONNECTED, _only_a_ping_in_flight, 1),
        Situation(State.CONNECTED, _link_frozen, 1),
        Situation(State.CONNECTED, _callback_running, 1),
        # No further call: the callback's one greenlet is still in the first.
        Situation(State.CONNECTED, _callback_that_swallows_its_end, 0),
        Situation(State.RESTING, _lost_early),
        Situation(State.BACKING_OFF, _refused),
        Situation(State.CLOSED, _closed, 1),
    )
}


def test_there_is_a_situation_for_every_state() -> None:
    assert {situation.state for situation in SITUATIONS.values()} == set(State)


@pytest.fixture
def scene(make_listener: MakeListener, proxy: MakeProxy, server: Server) -> Iterator[Scene]:
    made = Scene(make_listener, proxy(server), server)
    with made.cleanup:
        yield made


@pytest.mark.parametrize("name", SITUATIONS)
def test_it_takes_less_than_a_second(scene: Scene, name: str) -> None:
    situation = SITUATIONS[name]
    situation.reach(scene)
    listener = scene.listener
    assert repr(listener).startswith(f"<Listener {situation.state.value} "), listener
    closes_in_time(listener)
    _nobody_waits(scene)
    ends = [error for event, error in scene.events if isinstance(error, pglisten.ListenerClosed)]
    assert len(ends) == situation.ends
    assert not ends or scene.events.names[-1] == "DISCONNECTED"


def closes_in_time(listener: Listener) -> None:
    with stopwatch() as took:
        listener.close()
    assert took.own < PROMISE, took
    assert (listener.closed, listener.connected) == (True, False)
    with stopwatch() as took:
        listener.close()
    assert took.own < 0.3, "there is nothing left to be done"


def _nobody_waits(scene: Scene) -> None:
    """Every call that waited has raised ListenerClosed, and an iteration has ended."""
    for call in scene.calls:
        outcome = call.get(timeout=20)
        # An unlisten() may have succeeded by then: the connection is gone, and its channels with it.
        assert isinstance(outcome, pglisten.ListenerClosed) or outcome in ([], None)


def test_it_takes_less_than_a_second_in_a_tls_handshake(
    make_listener: MakeListener, proxy: MakeProxy, tls_server: TlsServer
) -> None:
    between = proxy(tls_server)
    dsn = tls_server.dsn(host=between.host, port=between.port, sslmode="require")
    listener = make_listener(dsn, connect_timeout=60.0)
    # The server has answered "S", and its hello never comes.
    between.wait_until(lambda: between.bytes_down >= 1)
    between.hold(DOWN)
    between.wait_until(lambda: bool(between.held(DOWN)))
    assert repr(listener).startswith("<Listener dialling ")
    closes_in_time(listener)
