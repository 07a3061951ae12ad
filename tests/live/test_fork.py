"""A forked child never touches its parent's session, and listens through one of its own.

Each test runs in a process of its own, since forking is the process's business.
"""

from __future__ import annotations

import pytest

from pglisten_listeners import succeeds
from pglisten_servers import Server

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

PARENT = """
import os, sys
if sys.argv[3] == "patched":
    from gevent import monkey
    monkey.patch_all()
import gevent, gevent.os
import pglisten

dsn, backend, how, scenario = sys.argv[1], sys.argv[2], sys.argv[4], sys.argv[5]
listener = pglisten.Listener(dsn, backend=backend, min_reconnect_interval=0.02)
listener.listen("x", timeout=20)
pid = listener.stats().server_pid
# The reader waits, the heartbeat is set, and a consumer is parked: all of them are copied into the child.
parked = gevent.spawn(listener.get)
gevent.idle()
listener.notify("x", "parked", timeout=20)
assert parked.get(timeout=20).payload == "parked"
listener.notify("x", "queued in the parent", timeout=20)

def take(count):
    return [(n and n.payload) for n in (listener.get(timeout=20) for _ in range(count))]

def child():
    if scenario == "listens":
        listener.wait_connected(20)
        assert listener.channels == {"x"}
        assert listener.stats().server_pid != pid
        listener.listen("from the child", timeout=20)
        listener.notify("x", "from the child", timeout=20)
        assert take(2) == [None, "from the child"], "a gap, and nothing of the parent's queue"
        listener.close()
    elif scenario == "idles":
        gevent.sleep(0.3)       # lets every copied greenlet run, if it would
    elif scenario == "closes":
        listener.close()
    elif scenario == "exits":
        pass
    elif scenario == "crashes":
        os.kill(os.getpid(), 9)

def fork():
    if how == "multiprocessing":
        import multiprocessing
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        return process.pid
    found = (os.fork if how == "os" else gevent.os.fork)()
    if found:
        return found
    code = 1
    try:
        child()
        code = 0
    finally:
        sys.stdout.flush(); sys.stderr.flush()
        os._exit(code) if scenario != "exits" else sys.exit(0)

child_pid = fork()
status = os.waitpid(child_pid, 0)[1]
assert os.waitstatus_to_exitcode(status) == (-9 if scenario == "crashes" else 0), status
expected = ["queued in the parent"] + (["from the child"] if scenario == "listens" else [])
assert take(len(expected)) == expected
for number in range(200):
    listener.notify("x", str(number), timeout=20)
assert take(200) == [str(number) for number in range(200)]
assert listener.stats().server_pid == pid and listener.stats().reconnects == 0
assert listener.channels == {"x"}
listener.close()
print("well")
"""


@pytest.mark.parametrize("scenario", ["listens", "idles", "closes", "exits", "crashes"])
@pytest.mark.parametrize(
    ("patched", "how"),
    [("plain", "os"), ("plain", "gevent"), ("patched", "os"), ("plain", "multiprocessing")],
)
def test_parent_and_child_each_go_on_with_a_session_of_their_own(
    server: Server, backend_name: str, patched: str, how: str, scenario: str
) -> None:
    succeeds(PARENT, server.dsn(), backend_name, patched, how, scenario)


CONNECTION = """
import os, sys, gevent, pglisten
connection = pglisten.ListenerConnection(sys.argv[1], backend=sys.argv[2])
connection.listen("x", timeout=20)
child = os.fork()
if not child:
    try:
        for call in (connection.ping, connection.get, lambda: connection.listen("y")):
            try:
                call()
            except pglisten.ConnectionLost as error:
                assert "forked" in str(error)
            else:
                os._exit(2)
        connection.close()
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
connection.notify("x", "alive", timeout=20)
assert connection.get(timeout=20).payload == "alive"
connection.close()
print("well")
"""


def test_a_single_connection_stays_the_parents(server: Server, backend_name: str) -> None:
    succeeds(CONNECTION, server.dsn(), backend_name)


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
