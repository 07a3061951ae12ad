"""The fixture ``pgbouncer``: starts PgBouncer in front of a server, and kills it after the test."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import gevent
import gevent.socket
import pytest

from pglisten.testing.postgres.folders import Folders
from pglisten.testing.postgres.processes import clean_environment, free_port, server_user
from pglisten.testing.postgres.server import keyword_string
from pglisten_environment import leave_out
from pglisten_server import Server

PoolMode = Literal["session", "transaction"]

START_TIMEOUT = 20.0
"""Seconds for it to accept connections; it takes some milliseconds."""

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""

CONFIGURATION = """\
[databases]
* = {server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
pool_mode = {pool_mode}
; Whoever comes is the server's user, with the server's password.
auth_type = any
logfile = {folder}/log
pidfile =
"""


class PgBouncer:
    """A pooler on a port of its own, kept over `kill` and `start`."""

    def __init__(
        self, program: str, folders: Folders, keywords: dict[str, object], pool_mode: PoolMode
    ) -> None:
        self.pool_mode = pool_mode
        self.port = free_port()
        self._program = program
        self._folder = folders.make(tempfile.gettempdir())
        self._keywords = keywords
        self._process: subprocess.Popen[bytes] | None = None
        # An empty file with the right owner first: it holds a password.
        self._configuration = self._folder / "pgbouncer.ini"
        self._configuration.touch(mode=0o600)
        folders.give(self._configuration)
        self._configuration.write_text(
            CONFIGURATION.format(
                server=" ".join(
                    f"{name}={_quoted(keywords[name])}"
                    for name in ("host", "port", "user", "password")
                    if name in keywords
                ),
                port=self.port,
                pool_mode=pool_mode,
                folder=self._folder,
            )
        )

    def __repr__(self) -> str:
        return f"<PgBouncer {self.pool_mode} port={self.port}>"

    def dsn(self, **keywords: object) -> str:
        """A connection string that leads through it."""
        return keyword_string(self._keywords | {"host": "127.0.0.1", "port": self.port} | keywords)

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        process = self._process = subprocess.Popen(
            [self._program, "-q", self._configuration],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(self._folder),
            start_new_session=True,
            # The janitor does not know it, and the tests may be killed.
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call
            **server_user(),
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            with contextlib.suppress(OSError):
                gevent.socket.create_connection(("127.0.0.1", self.port)).close()
                return
            assert process.poll() is None, f"PgBouncer did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"PgBouncer does not accept connections:\n{self.log()}"
            gevent.sleep(0.005)  # nothing tells when it listens

    def kill(self) -> None:
        """SIGKILL it: its connections end at once; nothing if it is down."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return Path(self._folder, "log").read_text(encoding="utf-8", errors="replace")
        return "(no log)"


StartPgBouncer: TypeAlias = Callable[..., PgBouncer]


@pytest.fixture
def pgbouncer(server: Server) -> Iterator[StartPgBouncer]:
    """Start PgBouncer: ``pgbouncer("session")`` or ``pgbouncer("transaction")``.

    Keywords replace those of the server it leads to: ``host`` and ``port`` of a proxy, for instance.
    """
    # Debian puts it where ordinary users do not look.
    program = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if program is None:
        leave_out("pgbouncer", "there is no pgbouncer: apt-get install pgbouncer")
    folders = Folders(server_user())
    made: list[PgBouncer] = []

    def start(pool_mode: PoolMode, **keywords: object) -> PgBouncer:
        made.append(PgBouncer(program, folders, server.keywords | keywords, pool_mode))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.kill()
    folders.remove()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"
