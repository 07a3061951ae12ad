"""A forked child never touches its parent's session, and listens through one of its own.

Each test runs in a process of its own, since a fork concerns the whole process.
"""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN
from support.fixtures.servers import Server

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

PARENT = (
    CHILDREN
    + """
import pglisten

_, dsn, backend, how, scenario = sys.argv[1:]
listener = pglisten.Listener(dsn, backend=backend, min_reconnect_interval=0.02)
listener.listen("x", timeout=20)
pid = listener.stats().server_pid
# The reader waits, the heartbeat is set, and a consumer is parked: all of them are copied into the child.
parked = gevent.spawn(listener.get)
gevent.idle()
listener.notify("x", "parked", timeout=20)
assert parked.get(timeout=20).payload == "parked"
items = iter(listener)
listener.notify("x", "iterated", timeout=20)
listener.notify("x", "queued in the parent", timeout=20)
assert next(items).payload == "iterated"

def take(count):
    return [(n and n.payload) for n in (listener.get(timeout=20) for _ in range(count))]

def listens(name="from the child"):
    before = listener.stats().server_pid
    listener.wait_connected(20)
    assert listener.channels == {"x"}
    assert listener.stats().server_pid not in (before, pid)
    listener.notify("x", name, timeout=20)
    assert take(2) == [None, name], "a gap, and nothing of the parent's queue"

def goes_on_iterating():
    assert next(items) is None, "a gap, and nothing of the parent's queue"
    listener.notify("x", "from the child", timeout=20)
    assert next(items).payload == "from the child"

def listens_and_closes():
    listens()
    listener.listen("and more", timeout=20)
    listener.close()

def idles():
    gevent.sleep(0.3)       # lets every copied greenlet run, if it would

def exits():
    sys.exit(0)

def leaves():
    os._exit(0)

def raises():
    raise RuntimeError("the child failed")

def crashes():
    os.kill(os.getpid(), 9)

def execs():
    os.execv(sys.executable, [sys.executable, "-c", "pass"])

def runs_a_program():
    import subprocess
    subprocess.run([sys.executable, "-c", "pass"], check=True)

def has_a_child():
    # Once before it has made a connection of its own, and once after.
    assert status(fork(lambda: listens("first"), how)) == 0
    listens("second")
    own = listener.stats().server_pid
    assert status(fork(lambda: listens("third"), how)) == 0
    listener.notify("x", "fourth", timeout=20)
    assert take(2) == ["third", "fourth"]
    assert listener.stats().server_pid == own

heard = {"listens_and_closes": ["from the child"], "goes_on_iterating": ["from the child"],
         "has_a_child": ["first", "second", "third", "fourth"]}
child = globals().get(scenario) or listener.close
if scenario in ("exits", "raises") and how != "multiprocessing":
    # All the way out through the interpreter's own end, finalizers and exit handlers included.
    child_pid = raw_fork(how)
    if not child_pid:
        signal.alarm(20)
        child()
else:
    child_pid = fork(child, how)
expected = {"crashes": -9, "raises": 1}.get(scenario, 0)
assert (got := status(child_pid)) == expected, got
expected = ["queued in the parent", *heard.get(scenario, [])]
assert take(len(expected)) == expected
for number in range(200):
    listener.notify("x", str(number), timeout=20)
assert take(200) == [str(number) for number in range(200)]
assert listener.stats().server_pid == pid and listener.stats().reconnects == 0
assert listener.channels == {"x"}
listener.close()
print("well")
"""
)

SCENARIOS = [
    *("listens_and_closes", "idles", "only_closes", "exits", "leaves", "raises", "crashes", "execs"),
    *("goes_on_iterating", "runs_a_program", "has_a_child"),
]


@pytest.mark.pairwise
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("how", ["os", "gevent", "multiprocessing"])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_parent_and_child_each_go_on_with_a_session_of_their_own(
    dsn: str, backend_name: str, patched: str, how: str, scenario: str
) -> None:
    succeeds(PARENT, patched, dsn, backend_name, how, scenario)


CONNECTION = (
    CHILDREN
    + """
import pglisten
connection = pglisten.ListenerConnection(sys.argv[2], backend=sys.argv[3])
connection.listen("x", timeout=20)

def child():
    for call in (
        connection.ping, connection.get, connection.unlisten_all, lambda: next(iter(connection)),
        lambda: connection.listen("y"), lambda: connection.unlisten("x"), lambda: connection.notify("x"),
        lambda: connection.execute("select 1"),
    ):
        try:
            call()
        except pglisten.ConnectionLost as error:
            assert "forked" in str(error)
        else:
            raise AssertionError(call)
    assert connection.closed and not connection.connected
    connection.close()

assert status(fork(child)) == 0
connection.notify("x", "alive", timeout=20)
assert connection.get(timeout=20).payload == "alive"
connection.close()
print("well")
"""
)


@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_single_connection_stays_the_parents(server: Server, backend_name: str, patched: str) -> None:
    succeeds(CONNECTION, patched, server.dsn(), backend_name)


POOL = (
    CHILDREN
    + """
import concurrent.futures, multiprocessing
import pglisten
listener = pglisten.Listener(sys.argv[2], backend=sys.argv[3], min_reconnect_interval=0.02)
listener.listen("x", timeout=20)
pid = listener.stats().server_pid

def work(number):
    listener.wait_connected(20)
    assert listener.get(20) is None
    assert listener.stats().server_pid != pid
    listener.notify("results", str(number), timeout=20)
    return os.getpid()

listener.listen("results", timeout=20)
fork = multiprocessing.get_context("fork")
# One task for each worker: the pool's own threads fork the next ones while the parent's greenlets wait.
if sys.argv[4] == "Pool":
    with fork.Pool(2, maxtasksperchild=1) as pool:
        workers = pool.map(work, range(4), chunksize=1)
else:
    workers = []
    for number in range(4):
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as pool:
            workers += pool.map(work, [number])
assert len(set(workers)) == 4 and os.getpid() not in workers
assert sorted(listener.get(20).payload for _ in range(4)) == ["0", "1", "2", "3"]
assert listener.stats().server_pid == pid and listener.stats().reconnects == 0
listener.close()
print("well")
"""
)


@pytest.mark.parametrize("kind", ["Pool", "ProcessPoolExecutor"])
def test_the_workers_of_a_pool_listen_on_their_own(server: Server, backend_name: str, kind: str) -> None:
    succeeds(POOL, "plain", server.dsn(), backend_name, kind)


STARTED = (
    CHILDREN
    + """
import subprocess
import pglisten
patched, dsn, backend, how = sys.argv[1:]
listener = pglisten.Listener(dsn, backend=backend)
listener.listen("x", timeout=20)
pid = listener.stats().server_pid

# Says which sockets it was given, and lives until its standard input ends.
program = '''if True:
    import os, sys
    open_files = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    links = [os.readlink(path) for path in open_files if os.path.exists(path)]
    print([link for link in links if link.startswith("socket:")], flush=True)
    os.read(0, 1)
'''
command = [sys.executable, "-c", program]
(from_child, to_us), (from_us, to_child) = os.pipe(), os.pipe()
if how == "posix_spawn":
    moves = [(os.POSIX_SPAWN_DUP2, from_us, 0), (os.POSIX_SPAWN_DUP2, to_us, 1)]
    started = os.posix_spawn(sys.executable, command, os.environ, file_actions=moves)
elif how == "exec":
    def become():
        os.dup2(from_us, 0), os.dup2(to_us, 1)
        os.execv(sys.executable, command)
    started = fork(become)
else:
    # Without closing anything for it: whatever may be inherited is.
    started = subprocess.Popen(command, stdin=from_us, stdout=to_us, close_fds=False).pid
os.close(to_us), os.close(from_us)
with open(from_child) as said:
    assert (sockets := said.readline()) == "[]\\n", sockets
listener.notify("x", "alive", timeout=20)
assert listener.get(20).payload == "alive"
listener.close()
with pglisten.ListenerConnection(dsn, backend=backend) as other:
    other.execute(f'''do $$ begin
        while exists (select from pg_stat_activity where pid = {pid}) loop
            perform pg_sleep(0.01), pg_stat_clear_snapshot();
        end loop;
    end $$''', timeout=20)
assert os.waitpid(started, os.WNOHANG) == (0, 0), "it should live on"
os.close(to_child)
assert status(started) == 0
print("well")
"""
)


@pytest.mark.pairwise
@pytest.mark.parametrize("how", ["posix_spawn", "exec", "subprocess"])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_program_that_is_started_inherits_no_socket_and_keeps_no_session(
    server: Server, backend_name: str, patched: str, how: str
) -> None:
    succeeds(STARTED, patched, server.dsn(), backend_name, how)
