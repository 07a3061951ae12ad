"""Forks in odd moments: inside the callback, between two consumers, while dialling."""

from __future__ import annotations

import pytest

from pglisten_listeners import succeeds
from pglisten_servers import Server
from pglisten_tls import TlsServer

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

IN_THE_CALLBACK = """
import os, sys, gevent, pglisten
parent, children = os.getpid(), []

def callback(event, error):
    if event is pglisten.ListenerEvent.CONNECTED and os.getpid() == parent:
        child = os.fork()
        if child:
            children.append(child)
            return
        code = 1
        try:
            listener.wait_connected(20)
            assert listener.get(20) is None
            listener.notify("x", "mine", timeout=20)
            assert listener.get(20).payload == "mine"
            code = 0
        finally:
            os._exit(code)

listener = pglisten.Listener(sys.argv[1], backend=sys.argv[2], event_callback=callback)
listener.listen("x", timeout=20)
with gevent.Timeout(20):
    while not children:
        gevent.idle()
assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
assert listener.get(20).payload == "mine"
listener.close()
print("well")
"""


def test_a_callback_that_forks_can_use_the_listener_in_the_child(server: Server, backend_name: str) -> None:
    succeeds(IN_THE_CALLBACK, server.dsn(), backend_name)


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
sender.execute("notify x, '1'; notify x, '2'", timeout=20) if not forked else None
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
import pglisten_psycopg2._wait as psycopg2_waits, pglisten_pg8000._transport as pg8000_waits
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

for module in psycopg2_waits, pg8000_waits:
    for name in "wait_read", "wait_readwrite":
        counting(module, name)
pglisten.ListenerConnection(dsn, backend=backend).close()
total = waits
assert total
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
