"""A process that owns a private server, to be killed."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gevent.subprocess
import psutil

How = Literal["plain", "patched", "forked"]

PROGRAM = """
import json, os, sys, time
how = sys.argv[1]
if how == "patched":
    from gevent import monkey
    monkey.patch_all()
import gevent
from pglisten.testing.postgres.server import PrivatePostgres

longest = 0.0
def tick():
    global longest
    last = time.perf_counter()
    while True:
        gevent.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now

with PrivatePostgres() as postgres:
    # The first start has spawned the janitor. What is watched is a start, a stop and a removal.
    ticker = gevent.spawn(tick)
    with PrivatePostgres() as second:
        second.restart()
    ticker.kill()
    if how == "forked" and os.fork() == 0:
        # Holds a copy of the janitor's stream, and reads it until the test is over; nothing is ever written.
        os.read(0, 1)
        os._exit(0)
    print(json.dumps({"folder": os.path.dirname(postgres.socket_directory), "longest": longest}), flush=True)
    os.read(0, 1)
"""


@dataclass
class Owner:
    process: gevent.subprocess.Popen[str]
    folder: Path
    longest_pause: float

    def servants(self) -> list[psutil.Process]:
        """The janitor and the server's processes."""
        return [
            each
            for child in psutil.Process(self.process.pid).children()
            if child.cmdline()[1:3] == ["-I", "-S"]
            for each in (child, *child.children(recursive=True))
        ]


@contextlib.contextmanager
def start_owner(how: How, **popen: Any) -> Iterator[Owner]:
    """Start an owner and wait until its server runs; end both afterwards."""
    with gevent.subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how],
        stdin=gevent.subprocess.PIPE,
        stdout=gevent.subprocess.PIPE,
        text=True,
        cwd="/",
        **popen,
    ) as process:
        # Leaving the block closes its standard input, which ends it and its forked child.
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        yield Owner(process, Path(said["folder"]), said["longest"])
