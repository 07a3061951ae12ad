"""A fork in every state of the listener, in every event's callback, and in the middle of a stream."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TypeAlias

import gevent
import pytest
from gevent.event import Event

from pglisten import ListenerEvent
from pglisten._listener.states import State
from pglisten.testing import UP, Proxy
from pglisten.testing._proxy import DOWN
from support.fixtures.programs import CHILDREN, Program, StartProgram
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server
from support.timing import hold_before

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.


IN_A_STATE = (
    CHILDREN
    + """
import pglisten
_, dsn, backend, state, interval = sys.argv[1:]
events, own = [], os.getpid()
listener = pglisten.Listener(
    dsn, backend=backend, min_reconnect_interval=float(interval), max_reconnect_interval=float(interval),
    jitter=0, event_callback=lambda event, error: os.getpid() == own and events.append(event.name),
)
if state in ("connected", "resting"):
    listener.wait_connected(20)
    asked("connected")
# A call that waits while the process forks; it waits in both from then on.
waiting = gevent.spawn(listener.listen, "x", 40)
with gevent.Timeout(20):
    while not repr(listener).startswith(f"<Listener {state}"):
        gevent.sleep(0.001)
if state != "backing off":
    asked("there")

def child():
    listener.wait_connected(20)
    waiting.get(timeout=20)
    assert listener.get(20) is None
    listener.listen("the child's", timeout=20)
    listener.notify("the child's", "to itself", timeout=20)
    assert listener.get(20).payload == "to itself"
    listener.close()

pid = fork(child)
asked("forked")
assert (got := status(pid)) == 0, got
waiting.get(timeout=20)
listener.wait_connected(20)
assert listener.channels == {"x"}
if state == "resting":
    assert listener.get(20) is None
listener.notify("x", "to the parent", timeout=20)
assert listener.get(20).payload == "to the parent"
listener.close()
print(*events)
print("well")
"""
)


def _dialling(program: Program, between: Proxy) -> None:
    program.hear("there")
    between.wait_until(lambda: between.connections == 1)


def _listening(program: Program, between: Proxy) -> None:
    hold_before(between, b"LISTEN")
    program.hear("there")


def _connected(program: Program, between: Proxy) -> None:
    program.hear("connected")
    between.hold(DOWN)
    program.answer()
    program.hear("there")


def _resting(program: Program, between: Proxy) -> None:
    program.hear("connected")
    between.cut()
    program.answer()
    program.hear("there")


Reach: TypeAlias = Callable[[Program, Proxy], None]

# State: how to reach it, the reconnect interval, and all events of the parent's listener.
CASES: dict[State, tuple[Reach | None, float, str]] = {
    State.DIALLING: (_dialling, 1.0, "CONNECTED DISCONNECTED"),
    State.LISTENING: (_listening, 1.0, "CONNECTED DISCONNECTED"),
    State.CONNECTED: (_connected, 1.0, "CONNECTED DISCONNECTED"),
    # The rest is the interval less what the connection lived.
    State.RESTING: (_resting, 3.0, "CONNECTED DISCONNECTED RECONNECTED DISCONNECTED"),
    State.BACKING_OFF: (None, 1.0, "CONNECTION_ATTEMPT_FAILED CONNECTED DISCONNECTED"),
}


def test_there_is_a_case_for_every_state_in_which_it_lives() -> None:
    assert {*CASES, State.CLOSED} == set(State)


@pytest.mark.pairwise
@pytest.mark.parametrize("state", CASES, ids=lambda state: state.value)
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_parent_and_child_both_go_on_after_a_fork_in_any_state(
    start_program: StartProgram,
    proxy: MakeProxy,
    server: Server,
    backend_name: str,
    patched: str,
    state: State,
) -> None:
    reach, interval, expected = CASES[state]
    between = proxy(server)
    if state is State.DIALLING:
        between.hold()
    elif state is State.LISTENING:
        between.hold(UP)  # From the beginning: it could slip through otherwise.
    elif state is State.BACKING_OFF:
        between.refuse()
    dsn = server.dsn(host=between.host, port=between.port)
    program = start_program(IN_A_STATE, patched, dsn, backend_name, state.value, str(interval))
    if reach is not None:
        reach(program, between)
        program.answer()
    before = between.connections
    program.hear("forked")
    if state is State.BACKING_OFF:
        between.accept()
    # Each connects for itself: the child at once, even while its parent waits.
    between.wait_until(lambda: between.connections > before)
    between.release()
    program.answer()
    said = program.ends_well()
    assert said.splitlines()[-2] == expected


IN_THE_CALLBACK = (
    CHILDREN
    + """
import pglisten
_, dsn, backend, wanted = sys.argv[1:]
own, children, answers = os.getpid(), [], []

def uses_the_listener():
    listener.wait_connected(20)
    assert listener.get(20) is None
    listener.listen("the child's", timeout=20)
    listener.notify("the child's", "mine", timeout=20)
    assert listener.get(20).payload == "mine"
    listener.close()

def callback(event, error):
    if os.getpid() == own and event.name == wanted and not children:
        children.append(fork(uses_the_listener))

listener = pglisten.Listener(
    dsn, backend=backend, min_reconnect_interval=0.1, max_reconnect_interval=0.1, event_callback=callback
)
with gevent.Timeout(20):
    while wanted == "CONNECTION_ATTEMPT_FAILED" and not children:
        gevent.sleep(0.001)
asked("now")
listener.listen("x", timeout=20)
reconnects = int(wanted in ("DISCONNECTED", "RECONNECTED"))
if reconnects:
    print(listener.stats().server_pid, flush=True)
with gevent.Timeout(20):
    # Without taking anything: in the child, a copy of this greenlet would take what is awaited there.
    while os.getpid() != own or not children or listener.stats().reconnects < reconnects:
        gevent.sleep(0.001)
if reconnects:
    assert listener.get(20) is None
assert status(children[0]) == 0
listener.notify("x", "the parent's", timeout=20)
assert listener.get(20).payload == "the parent's"
listener.close()
print("well")
"""
)


@pytest.mark.pairwise
@pytest.mark.parametrize("event", [event.name for event in ListenerEvent])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_callback_that_forks_can_use_the_listener_in_the_child(
    start_program: StartProgram, proxy: MakeProxy, server: Server, backend_name: str, patched: str, event: str
) -> None:
    between = proxy(server)
    if event == "CONNECTION_ATTEMPT_FAILED":
        between.refuse()
    dsn = server.dsn(host=between.host, port=between.port)
    program = start_program(IN_THE_CALLBACK, patched, dsn, backend_name, event)
    program.hear("now")
    between.accept()
    program.answer()
    if event in ("DISCONNECTED", "RECONNECTED"):
        server.terminate(int(program.line()))
    program.ends_well()


IN_A_STREAM = (
    CHILDREN
    + """
import pglisten
_, dsn, backend = sys.argv[1:]
children, got = [], []
listener = pglisten.Listener(dsn, backend=backend, min_reconnect_interval=0.02)
listener.listen("x", timeout=20)

def taken():
    for item in listener:
        if item and item.payload == "end":
            return
        yield item and int(item.payload)

def follows():
    # A gap, and from there on everything, in order, up to the end.
    listener.wait_connected(20)
    os.write(1, b"following\\n")  # In one piece: four children say it.
    first, *rest = taken()
    assert first is None
    assert rest == list(range(rest[0], rest[-1] + 1)), rest
    listener.close()

print("listening", flush=True)
for number in taken():
    got.append(number)
    if number in (100, 110, 120, 130):
        children.append(fork(follows))
assert got == list(range(len(got))), got
assert [status(pid) for pid in children] == [0, 0, 0, 0]
listener.close()
print("well")
"""
)


@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_consumer_that_forks_misses_nothing_and_its_children_begin_with_a_gap(
    start_program: StartProgram, server: Server, backend_name: str, patched: str
) -> None:
    program = start_program(IN_A_STREAM, patched, server.dsn(), backend_name)
    program.hear("listening")
    all_follow = Event()
    sender = gevent.spawn(_send_numbers, server, all_follow)
    try:
        for _ in range(4):
            program.hear("following")
        all_follow.set()
        sender.get(timeout=20)
    finally:
        sender.kill()
    program.ends_well()


def _send_numbers(server: Server, enough: Event) -> None:
    """Send numbers one by one until it is *enough*, a few more for the last one to hear, and the end."""
    numbers = itertools.count()
    while not enough.is_set():
        server.notify("x", str(next(numbers)))
    for number in itertools.islice(numbers, 20):
        server.notify("x", str(number))
    server.notify("x", "end")
