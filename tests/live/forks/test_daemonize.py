"""A process that connects and then daemonizes: its descriptors' numbers lead elsewhere in the child.

Each test runs in a process of its own, since a fork concerns the whole process.
"""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

PROGRAM = (
    CHILDREN
    + """
import ctypes, gc, tempfile
from pathlib import Path
import pglisten
_, dsn, backend, kind, fork_by, then = sys.argv[1:]

def open_numbers():
    return {int(link.name) for link in Path("/proc/self/fd").iterdir() if link.exists()}

gevent.get_hub().threadpool.apply(int)
# Open as long as the daemon lives. Its status may go to gevent's handler, which does not know it.
lives, dead = os.pipe()
of_gevent = open_numbers()
if backend == "fake":
    from pglisten.testing import FakeBackend
    backend = FakeBackend()
if kind == "Broadcaster":
    made = pglisten.Broadcaster(dsn, backend=backend)
    get = made.subscribe("x", timeout=20).get
else:
    options = {"min_reconnect_interval": 0.02} if kind == "Listener" else {}
    made = getattr(pglisten, kind)(dsn, backend=backend, **options)
    made.listen("x", timeout=20)
    get = made.get
parked = gevent.spawn(get)
gevent.idle()
replaced = open_numbers() - of_gevent
assert replaced
folder = Path(tempfile.mkdtemp())

def replace_descriptors():
    # As a daemon does: close all, open others. Each number leads to a file of its own now.
    for number in replaced:
        os.closerange(number, number + 1)  # At once: gevent postpones os.close.
    for number in replaced:
        opened = os.open(folder / str(number), os.O_RDWR | os.O_CREAT)
        if opened != number:
            os.dup2(opened, number)
            os.closerange(opened, opened + 1)
    return {number: os.fstat(number).st_ino for number in replaced}

def use():
    try:
        get(timeout=1)
    except (pglisten.OperationTimeout, pglisten.ConnectionLost, pglisten.ListenerClosed):
        pass
    made.close()

def collect():
    global made, get, parked
    parked.kill(block=False)
    made = get = parked = None
    gc.collect()
    gevent.idle()
    gc.collect()

def check(files):
    for number, inode in files.items():
        assert os.fstat(number).st_ino == inode, (number, os.readlink(f"/proc/self/fd/{number}"))
        assert os.write(number, b"mine") == 4

def daemon():
    files = replace_descriptors()
    if fork_by == "os":
        gevent.reinit()
        gevent.idle()  # The parent's greenlets are here as well, and run if they would.
    if then == "exit":
        return
    globals()[then]()
    check(files)

def leave(code):
    sys.stderr.flush()
    os._exit(code)

fork_once = os.fork if fork_by == "os" else ctypes.PyDLL(None).fork
if fork_once() == 0:
    if fork_once():
        leave(0)
    signal.alarm(20)
    try:
        daemon()
    except BaseException:
        import traceback
        traceback.print_exc()
        leave(1)
    if then != "exit":
        leave(0)
    # Through the interpreter's own end. What is buffered is written there, and must find its descriptor.
    kept = [open(number, "w") for number in replaced]
    for file in kept:
        file.write("mine")
    sys.exit(0)
os.closerange(dead, dead + 1)
gevent.socket.wait_read(lives, timeout=40)
for number in replaced:
    assert (folder / str(number)).read_text() == "mine", number
assert not parked.dead, parked.value
if isinstance(backend, str):
    made.notify("x", "alive", timeout=20)
else:
    backend.server.notify("x", "alive")
assert parked.get(timeout=20).payload == "alive"
made.close()
print("well")
"""
)

KINDS = ["Listener", "ListenerConnection", "Broadcaster"]
FORKS = ["os", "ctypes"]
"""By Python, whose hooks abandon the connection at once, and by C, without Python's knowledge."""
THEN = ["use", "collect", "exit"]


# What closes the old numbers: each driver has two ways, and TLS has one of its own in pg8000.
@pytest.mark.pairwise("backend_name", "dsn")
@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("fork_by", FORKS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_a_daemon_keeps_what_it_opened_under_the_old_numbers(
    dsn: str, backend_name: str, patched: str, kind: str, fork_by: str, then: str
) -> None:
    succeeds(PROGRAM, patched, dsn, backend_name, kind, fork_by, then)


@pytest.mark.parametrize("then", THEN)
@pytest.mark.parametrize("fork_by", FORKS)
def test_the_server_in_memory_leaves_them_alone_too(fork_by: str, then: str) -> None:
    succeeds(PROGRAM, "plain", "host=127.0.0.1 user=tester", "fake", "Listener", fork_by, then)
