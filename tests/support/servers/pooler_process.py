"""Poolers that are programs of their own: started in front of a server, and killed after the test."""

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
from typing import Literal, TypeVar

import gevent
import gevent.socket

from pglisten._conninfo.dsn import keyword_string
from pglisten.testing.postgres.folders import Folders
from pglisten.testing.postgres.processes import clean_environment, free_port, server_user
from support.fixtures.environment import leave_out

from .server import Server

START_TIMEOUT = 20.0
"""Seconds for a pooler to accept connections; it takes some milliseconds."""

Pooler = TypeVar("Pooler", bound="PoolerProcess")

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""


PoolMode = Literal["session", "transaction"]


class PoolerProcess:
    """A pooler on a port of its own, kept over `kill` and `start`. *keywords* lead to the server.

    *more* is text for its configuration.
    """

    def __init__(
        self, program: str, folders: Folders, keywords: dict[str, object], pool_mode: PoolMode, more: str
    ) -> None:
        self._more = more
        self.pool_mode = pool_mode
        self.port = free_port()
        self._program = program
        self.folder = folders.make(tempfile.gettempdir())
        self.keywords = keywords
        self._process: subprocess.Popen[bytes] | None = None
        # An empty file with the right owner first: it holds a password.
        self._file = self.folder / "configuration"
        self._file.touch(mode=0o600)
        folders.give(self._file)
        self._file.write_text(self.configuration())

    def configuration(self) -> str:
        """The text of the configuration file. The log goes to the file ``log`` in the folder."""
        raise NotImplementedError

    def arguments(self) -> list[str]:
        """The program's arguments before the configuration file."""
        return []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pool_mode} port={self.port}>"

    def dsn(self, **keywords: object) -> str:
        """A connection string that leads through it."""
        return keyword_string(self.keywords | {"host": "127.0.0.1", "port": self.port} | keywords)

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        process = self._process = subprocess.Popen(
            [self._program, *self.arguments(), self._file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(self.folder),
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
            assert process.poll() is None, f"{self} did not start:\n{self.log()}"
            assert time.monotonic() < deadline, f"{self} does not accept connections:\n{self.log()}"
            gevent.sleep(0.005)  # there is no event for it

    def kill(self) -> None:
        """SIGKILL it: its connections end at once; nothing if it is down."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return Path(self.folder, "log").read_text(encoding="utf-8", errors="replace")
        return "(no log)"


@contextlib.contextmanager
def poolers(made: type[Pooler], name: str, server: Server) -> Iterator[Callable[..., Pooler]]:
    """Give a function that starts poolers, the program *name*, in front of *server*; kill them at the end."""
    program = _find(name)
    folders = Folders(server_user())
    started: list[Pooler] = []

    def start(pool_mode: PoolMode, *, more: str = "", **keywords: object) -> Pooler:
        started.append(made(program, folders, server.keywords | keywords, pool_mode, more))
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.kill()
    folders.remove()


def _find(name: str) -> str:
    """Return the program's path, or leave the test out."""
    # Debian puts some where ordinary users do not look.
    program = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if program is None:
        leave_out(name, f"there is no {name}: apt-get install {name}")
    return program


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
