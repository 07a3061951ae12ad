"""A call from another OS thread than the listener's own: a clear error at once, and nothing is touched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import gevent
import pytest
from gevent import monkey

import pglisten
from pglisten import Listener, ListenerConnection
from support.fixtures.listeners import Events, MakeConnection, MakeListener, fence
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server

Owner: TypeAlias = Any
How: TypeAlias = Literal["refused", "answers"]

# In a patched process the public ones make greenlets.
start_new_thread = monkey.get_original("_thread", "start_new_thread")
allocate_lock = monkey.get_original("_thread", "allocate_lock")

LIMIT = 20
"""Seconds after which a call counts as hung."""

# Every public name of both, a call of it, and the result. Reading attributes is allowed.
MEMBERS: dict[str, tuple[How, Callable[[Owner], object]]] = {
    "listen": ("refused", lambda owner: owner.listen("y")),
    "unlisten": ("refused", lambda owner: owner.unlisten("x")),
    "unlisten_all": ("refused", lambda owner: owner.unlisten_all()),
    "notify": ("refused", lambda owner: owner.notify("x", "from a thread")),
    "execute": ("refused", lambda owner: owner.execute("notify x, 'from a thread'")),
    "ping": ("refused", lambda owner: owner.ping()),
    "get": ("refused", lambda owner: owner.get()),
    "__iter__": ("refused", lambda owner: next(iter(owner))),
    "wait_connected": ("refused", lambda owner: owner.wait_connected()),
    "close": ("refused", lambda owner: owner.close()),
    "__exit__": ("refused", lambda owner: owner.__exit__(None, None, None)),
    "__enter__": ("answers", lambda owner: owner.__enter__()),
    "__repr__": ("answers", repr),
    "backend": ("answers", lambda owner: owner.backend),
    "channels": ("answers", lambda owner: owner.channels),
    "closed": ("answers", lambda owner: owner.closed),
    "connected": ("answers", lambda owner: owner.connected),
    "error": ("answers", lambda owner: owner.error),
    "server_pid": ("answers", lambda owner: owner.server_pid),
    "stats": ("answers", lambda owner: owner.stats()),
}


def _names(kind: type[Owner]) -> set[str]:
    special = {"__iter__", "__enter__", "__exit__", "__repr__"} & vars(kind).keys()
    made = {name for name, value in vars(kind).items() if isinstance(value, classmethod)}
    return {name for name in vars(kind) if not name.startswith("_")} - made | special


def _in_the_pool(call: Callable[[], object]) -> object:
    """Return what *call* returns or raises in a thread of gevent's pool."""
    return gevent.get_hub().threadpool.spawn(_outcome, call).get(timeout=LIMIT)


def _in_a_thread(call: Callable[[], object]) -> object:
    """Return what *call* returns or raises in a thread without a hub; wait without this one."""
    outcomes: list[object] = []
    over = allocate_lock()
    over.acquire()

    def run() -> None:
        outcomes.append(_outcome(call))
        over.release()

    start_new_thread(run, ())
    assert over.acquire(timeout=LIMIT), "the call hangs"
    return outcomes[0]


def _outcome(call: Callable[[], object]) -> object:
    try:
        return call()
    except BaseException as error:  # noqa: BLE001 - compared in the test
        return error


THREADS = {"pool": _in_the_pool, "thread": _in_a_thread}


@pytest.fixture(params=THREADS)
def elsewhere(request: pytest.FixtureRequest) -> Callable[[Callable[[], object]], object]:
    """Run something in another OS thread: one of gevent's pool, and one of the application's own."""
    return THREADS[request.param]


Elsewhere: TypeAlias = Callable[[Callable[[], object]], object]


def test_every_public_name_has_its_line_in_the_table() -> None:
    assert _names(Listener) | _names(ListenerConnection) == set(MEMBERS)


def _check(owner: Owner, elsewhere: Elsewhere) -> None:
    for name in sorted(_names(type(owner))):
        how, call = MEMBERS[name]
        outcome = elsewhere(lambda call=call: call(owner))  # type: ignore[misc]
        if how == "refused":
            assert type(outcome) is pglisten.Error, (name, outcome)
            assert "another OS thread" in str(outcome)
        else:
            assert not isinstance(outcome, BaseException), (name, outcome)


def test_a_connected_listener_refuses_and_goes_on(listener: Listener, elsewhere: Elsewhere) -> None:
    listener.listen("x", timeout=20)
    _check(listener, elsewhere)
    assert listener.channels == {"x"}
    fence(listener, "x")


def test_a_single_connection_refuses_and_goes_on(
    make_connection: MakeConnection, elsewhere: Elsewhere
) -> None:
    connection = make_connection()
    connection.listen("x", timeout=20)
    _check(connection, elsewhere)
    fence(connection, "x")


def test_a_listener_that_dials_refuses_and_goes_on(
    make_listener: MakeListener, proxy: MakeProxy, server: Server, elsewhere: Elsewhere
) -> None:
    between = proxy(server)
    between.hold()
    listener = make_listener(server.dsn(host=between.host, port=between.port))
    between.wait_until(lambda: between.connections == 1)
    _check(listener, elsewhere)
    between.release()
    listener.listen("x", timeout=20)
    fence(listener, "x")


def test_a_listener_that_backs_off_refuses(make_listener: MakeListener, elsewhere: Elsewhere) -> None:
    events = Events()
    listener = make_listener(
        "host=127.0.0.1 port=1 user=app", min_reconnect_interval=60.0, event_callback=events
    )
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    _check(listener, elsewhere)


def test_with_something_queued_nothing_is_taken(listener: Listener, elsewhere: Elsewhere) -> None:
    listener.listen("x", timeout=20)
    listener.notify("x", "queued", timeout=20)
    _check(listener, elsewhere)
    item = listener.get(timeout=20)
    assert item is not None
    assert item.payload == "queued"


def test_an_iteration_does_not_go_on_there(listener: Listener, elsewhere: Elsewhere) -> None:
    listener.listen("x", timeout=20)
    for payload in ("first", "second"):
        listener.notify("x", payload, timeout=20)
    items = iter(listener)
    first = next(items)
    assert first is not None
    assert first.payload == "first"
    outcome = elsewhere(lambda: next(items))
    assert type(outcome) is pglisten.Error, outcome
    second = listener.get(timeout=20)
    assert second is not None
    assert second.payload == "second"


def test_what_a_closed_listener_has_queued_is_not_taken_either(
    listener: Listener, elsewhere: Elsewhere
) -> None:
    listener.listen("x", timeout=20)
    listener.notify("x", "queued", timeout=20)
    listener.close()
    for name in ("get", "__iter__", "listen", "ping", "wait_connected"):
        outcome = elsewhere(lambda name=name: MEMBERS[name][1](listener))  # type: ignore[misc]
        assert isinstance(outcome, pglisten.Error), (name, outcome)
    assert [item and item.payload for item in listener] == ["queued"]


def test_a_lost_connection_refuses_from_there_too(
    make_connection: MakeConnection, server: Server, elsewhere: Elsewhere
) -> None:
    connection = make_connection()
    connection.listen("x", timeout=20)
    server.terminate(connection.server_pid)
    with pytest.raises(pglisten.ConnectionLost):
        connection.get(timeout=20)
    for name in _names(ListenerConnection):
        how, call = MEMBERS[name]
        outcome = elsewhere(lambda call=call: call(connection))  # type: ignore[misc]
        if how == "refused":
            assert isinstance(outcome, pglisten.Error), (name, outcome)


def test_a_listener_of_the_threads_own_works_there(server: Server, backend_name: str) -> None:
    def listens() -> str:
        with Listener(server.dsn(), backend=backend_name) as listener:
            listener.listen("x", timeout=20)
            fence(listener, "x")
        gevent.get_hub().destroy(destroy_loop=True)
        return "well"

    assert _in_the_pool_of_one(listens) == "well"


def _in_the_pool_of_one(call: Callable[[], object]) -> object:
    """Return what *call* returns in a thread of its own."""
    pool = gevent.threadpool.ThreadPool(1)
    try:
        return pool.spawn(_outcome, call).get(timeout=LIMIT)
    finally:
        pool.kill()
