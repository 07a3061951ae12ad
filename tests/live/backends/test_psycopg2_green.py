"""The psycopg2 backend in processes with and without a green psycopg2."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Any

import psycopg2
import pytest

import pglisten_psycopg2
from support.timeouts import TIMEOUT

pytestmark = pytest.mark.slow  # Each test starts processes, so run it on one Python only.

GREEN = {
    "plain": "",
    "make_green": "import pglisten_psycopg2; pglisten_psycopg2.make_green()",
    "psycogreen": "from psycogreen.gevent import patch_psycopg; patch_psycopg()",
}
PATCHED = {"unpatched": "", "patched": "from gevent import monkey; monkey.patch_all()"}

PROGRAM = """
import os, sys, gevent, psycopg2
from psycopg2.extensions import get_wait_callback
from pglisten._conninfo import ConnInfo
from pglisten._connection.connect import dial
from pglisten.backend import Notification
from pglisten.errors import ConnectionLost
from pglisten_psycopg2 import Psycopg2Backend

before = get_wait_callback()
conninfo = ConnInfo.parse(sys.argv[1], os.environ)
session, other = (dial(Psycopg2Backend(), conninfo, 20) for _ in range(2))
assert get_wait_callback() is before

session.execute("LISTEN c", 20)
other.execute("NOTIFY c, 'é'", 20)
found = []
while not found:
    gevent.socket.wait_read(session.fileno(), timeout=20)
    found = session.receive()
assert found == [Notification(other.pid, "c", "é")], found

ending = gevent.spawn(other.execute, f"SELECT pg_terminate_backend({session.pid})", 20)
try:
    session.execute("SELECT pg_sleep(60)", 20)
except ConnectionLost as error:
    assert error.sqlstate == "57P01", error
else:
    raise AssertionError("the session outlived its end")

if before is not None:  # The application's own connections wait cooperatively, too.
    order = []
    def ask(seconds):
        own = psycopg2.connect(sys.argv[1])
        own.cursor().execute("SELECT pg_sleep(%s)", [seconds])
        order.append(seconds)
        own.close()
    gevent.joinall([gevent.spawn(ask, seconds) for seconds in (0.5, 0.0)], raise_error=True, timeout=20)
    assert order == [0.0, 0.5], order
ending.get(timeout=20)
session.close()
other.close()
print("all is well")
"""


@pytest.mark.parametrize("patched", PATCHED)
@pytest.mark.parametrize("green", GREEN)
def test_a_session_works_in_green_processes_and_in_others(server: Any, green: str, patched: str) -> None:
    program = "\n".join([PATCHED[patched], GREEN[green], textwrap.dedent(PROGRAM)])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, server.dsn()],
        capture_output=True,
        text=True,
        timeout=TIMEOUT * 3,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "all is well\n", "")


def test_importing_the_backend_makes_nothing_green() -> None:
    assert callable(pglisten_psycopg2.make_green)
    assert psycopg2.extensions.get_wait_callback() is None
