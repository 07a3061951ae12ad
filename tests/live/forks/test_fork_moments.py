"""Forks at rare moments: between two consumers, at every wait of dialling, in a thread, after close()."""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN
from support.fixtures.servers import Server
from support.fixtures.tls import TlsServer

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

BETWEEN_TWO_CONSUMERS = """
import os, sys, gevent, pglisten
listener = pglisten.Listener(sys.argv[1], backend=sys.argv[2], min_reconnect_interval=0.02)
listener.listen("x", timeout=20)
got, forked = [], []

def consume():
    while True:
        item = listener.get()
        got.append(item and item.payload)
        if item and item.payload == "1":
            forked.append(os.fork())
            if not forked[0]:
                got.clear()

consumers = [gevent.spawn(consume) for _ in range(2)]
gevent.idle()
sender = pglisten.ListenerConnection(sys.argv[1], backend=sys.argv[2])
try:
    sender.execute("notify x, '1'; notify x, '2'", timeout=20)
except pglisten.ConnectionLost:
    assert not forked[0]  # The child's copy of this call: the fork was quicker than the reply.
with gevent.Timeout(20):
    while not got or (forked and not forked[0] and got[:1] != [None]):
        gevent.sleep(0.01)
if not forked[0]:
    os._exit(0 if got == [None] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == 0
with gevent.Timeout(20):
    while got != ["1", "2"]:
        gevent.sleep(0.01)
print("well")
"""


def test_a_copied_consumer_does_not_take_what_its_parent_has_queued(
    server: Server, backend_name: str
) -> None:
    succeeds(BETWEEN_TWO_CONSUMERS, server.dsn(), backend_name)


WHILE_DIALLING = """
import os, sys, gevent, pglisten
import pglisten_libpq.waiting as libpq_waits, pglisten_pg8000._transport as pg8000_waits
dsn, backend = sys.argv[1:]
waits, fork_at, children, failures = 0, 0, [], []

def fork():
    child = os.fork()
    if child:
        children.append(child)
        return
    try:
        try:
            listener.get(0.01)
        except pglisten.OperationTimeout:
            pass
        gevent.sleep(0.05)
        listener.wait_connected(20)
        listener.close()
        os._exit(0)
    finally:
        os._exit(1)

def counting(module, name):
    original = getattr(module, name)
    def waiting(*arguments, **keywords):
        global waits
        waits += 1
        if waits == fork_at:
            gevent.spawn(fork)
        return original(*arguments, **keywords)
    setattr(module, name, waiting)

for module in libpq_waits, pg8000_waits:
    counting(module, "wait_ready")
while not waits:  # On a busy machine every answer may be there before a greenlet waits for it.
    pglisten.ListenerConnection(dsn, backend=backend).close()
total = waits
for number in range(1, total + 1):
    waits, fork_at = 0, number
    listener = pglisten.Listener(
        dsn, backend=backend, min_reconnect_interval=0.1,
        event_callback=lambda event, error: failures.append((number, event, str(error))) if error else None,
    )
    listener.wait_connected(20)
    with gevent.Timeout(20):
        while len(children) < number and waits >= number:
            gevent.idle()
    fork_at = 0
    if waits < number:  # This time the server's answers came in fewer pieces.
        listener.close()
        break
    assert os.waitstatus_to_exitcode(os.waitpid(children[-1], 0)[1]) == 0, number
    listener.ping(20)
    assert not failures, failures
    listener.close()
    failures.clear()  # of the event that closing is
print("well")
"""


@pytest.mark.parametrize("sslmode", ["disable", "require"])
def test_a_fork_while_dialling_leaves_the_parents_attempt_alone(
    tls_server: TlsServer, backend_name: str, sslmode: str
) -> None:
    succeeds(WHILE_DIALLING, tls_server.dsn(sslmode=sslmode), backend_name)


PARKED = """
import os, sys, gevent, pglisten
listener = pglisten.Listener(sys.argv[1], backend=sys.argv[2], min_reconnect_interval=0.02)
listener.listen("x", timeout=20)
consumer = gevent.spawn(lambda: [listener.get(), listener.get()])
pending = gevent.spawn(listener.wait_connected)
gevent.idle()
child = os.fork()
if not child:
    try:
        listener.notify("x", "too early") if listener.connected else None
        listener.wait_connected(20)
        listener.notify("x", "for the child", timeout=20)
        gap, item = consumer.get(timeout=20)
        assert gap is None and item.payload == "for the child"
        os._exit(0)
    except BaseException:
        import traceback; traceback.print_exc()
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
listener.notify("x", "for the parent", timeout=20)
got = [item.payload for item in consumer.get(timeout=20)]
assert got == ["for the child", "for the parent"], got
listener.close()
print("well")
"""


def test_a_copied_consumer_goes_on_in_the_child_once_the_child_uses_the_listener(
    server: Server, backend_name: str
) -> None:
    succeeds(PARKED, server.dsn(), backend_name)


IN_A_THREAD = (
    CHILDREN
    + """
import pglisten
listener = pglisten.Listener(sys.argv[2], backend=sys.argv[3], min_reconnect_interval=0.02)
listener.listen("x", timeout=20)
own = os.getpid()

def child():
    listener.wait_connected(20)
    assert listener.get(20) is None
    listener.notify("x", "from the child", timeout=20)
    assert listener.get(20).payload == "from the child"
    listener.close()

# In the child the thread that forked is the only one, and so the listener's.
pid = gevent.get_hub().threadpool.apply(fork, (child,))
assert status(pid) == 0
assert listener.get(20).payload == "from the child"
assert listener.stats().reconnects == 0
listener.close()
print("well")
"""
)


def test_the_child_of_another_thread_can_use_the_listener(server: Server, backend_name: str) -> None:
    # In a patched process gevent itself refuses to fork there.
    succeeds(IN_A_THREAD, "plain", server.dsn(), backend_name)


CLOSED = (
    CHILDREN
    + """
import pglisten
listener = pglisten.Listener(sys.argv[2], backend=sys.argv[3])
listener.listen("x", timeout=20)
listener.notify("x", "the parent's", timeout=20)
listener.close()

def child():
    for call in (listener.get, listener.ping, listener.wait_connected, lambda: listener.listen("y")):
        try:
            call()
        except pglisten.ListenerClosed:
            pass
        else:
            raise AssertionError(call)
    assert list(listener) == []
    listener.close()

assert status(fork(child)) == 0
assert listener.get(20).payload == "the parent's"
print("well")
"""
)


@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_closed_listener_is_closed_in_the_child_and_its_queue_is_the_parents(
    server: Server, backend_name: str, patched: str
) -> None:
    succeeds(CLOSED, patched, server.dsn(), backend_name)
