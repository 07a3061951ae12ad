"""A private PostgreSQL server, started from programs on this machine and removed without a trace.

A `JanitorProcess` does everything that blocks. This module asks it over a socket and waits cooperatively, so
that it never blocks the hub, in monkey-patched processes and in others.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import gevent.lock
import gevent.socket

from ..._conninfo.dsn import keyword_string
from .binaries import Kind, find_binaries
from .cluster import ShutdownMode
from .janitor import BOOTSTRAP

__all__ = ["JanitorProcess", "PrivatePostgres", "PrivatePostgresError"]

_REQUEST_TIMEOUT = 120.0
"""Seconds for the janitor to answer; longer than any of its own steps may take."""


class PrivatePostgresError(Exception):
    """A private server cannot be started; the message says what is missing, or ends with the server's log."""


class JanitorProcess:
    """The process that starts servers, and removes them and their files when this process has ended.

    Several servers may share one janitor, and then share the work of initdb.
    """

    def __init__(self) -> None:
        """Start the process, without waiting for it."""
        ours, theirs = gevent.socket.socketpair()
        package = str(Path(__file__).parent)
        with theirs:
            # A session of its own, so that Ctrl-C at the terminal reaches the owner only.
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-I", "-S", "-c", BOOTSTRAP, package, str(os.getpid())],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        ours.settimeout(_REQUEST_TIMEOUT)
        self._socket = ours
        self._owner = os.getpid()
        # Guards the stream: a reply belongs to the request before it.
        self._lock = gevent.lock.BoundedSemaphore(1)
        self._received = b""
        self._number = 0

    def __enter__(self) -> JanitorProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, action: str, **arguments: object) -> Any:
        """Ask the janitor for *action* and return its answer. Raises `PrivatePostgresError` if it fails."""
        with self._lock:
            self._number += 1
            request = {"id": self._number, "do": action, "with": arguments}
            try:
                self._socket.sendall(json.dumps(request).encode() + b"\n")
                reply = json.loads(self._line())
                # Replies to requests whose greenlet was killed while it waited.
                while reply["id"] != self._number:
                    reply = json.loads(self._line())
            except OSError as error:
                raise PrivatePostgresError(f"the janitor process does not answer: {error}") from error
        if "error" in reply:
            raise PrivatePostgresError(reply["error"])
        return reply["value"]

    def close(self) -> None:
        """Stop all servers, remove all folders, end the process. Idempotent; no effect in a forked child."""
        if os.getpid() != self._owner or self._process.returncode is not None:
            return
        with self._lock:
            try:
                # The end of this stream is the request to clean up; the janitor ends its stream when it
                # exits.
                with contextlib.suppress(OSError):  # it has ended already
                    self._socket.shutdown(gevent.socket.SHUT_WR)
                while self._socket.recv(65536):
                    pass
            except OSError as error:
                raise PrivatePostgresError(f"the janitor process does not end: {error}") from error
            finally:
                self._socket.close()
            self._process.wait()

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            data = self._socket.recv(65536)
            if not data:
                raise ConnectionResetError("it has ended")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line


class PrivatePostgres:
    """One server on 127.0.0.1 and on a Unix socket, with the superuser ``postgres``."""

    version = ""
    """For example ``17.10``; empty before the first start."""
    has_ssl = False
    """Whether this build can do TLS; false before the first start."""
    origin = ""
    """The wheel or the folder of the programs; empty before the first start."""
    port = 0
    """Chosen at the first start, and kept."""
    socket_directory = ""
    """The ``host`` to give for the Unix socket."""

    def __init__(
        self,
        *,
        prefer: Sequence[Kind] = ("wheel", "local"),
        ssl: bool = False,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        janitor: JanitorProcess | None = None,
    ) -> None:
        """Describe the server, without starting it; `start` starts it.

        *prefer* says where to look for programs, and in which order. *ssl* asks for a build with TLS.
        *settings* go to postgresql.conf. *hba* are the lines of pg_hba.conf; if there are none, every
        connection needs a password. *files* are further files of the data directory, by name. ``None``
        as *janitor* means a janitor of its own.
        """
        self._own_janitor = janitor is None
        self._janitor = janitor
        self._recipe: dict[str, object] = {
            "candidates": [asdict(binaries) for binaries in find_binaries(prefer)],
            "ssl": ssl,
            "settings": dict(settings or {}),
            "hba": list(hba),
            "files": dict(files or {}),
        }
        self._server: int | None = None
        self._password = ""

    def __repr__(self) -> str:
        return f"<PrivatePostgres {self.version or 'not started'} port={self.port}>"

    def __enter__(self) -> PrivatePostgres:
        try:
            self.start()
        except BaseException:
            # __exit__ is not called after an error here, and no part of a server may stay.
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the postmaster lives, frozen or not."""
        return self._server is not None and bool(self._ask("running"))

    def start(self) -> None:
        """Start the server, and return when it accepts connections; a second start keeps port and data."""
        if self._server is not None:
            self._ask("start")
            return
        if self._janitor is None:
            self._janitor = JanitorProcess()
        made = self._janitor.ask("create", **self._recipe)
        self._server, self._password = made["server"], made["password"]
        self.port, self.socket_directory = made["port"], made["directory"]
        self.version, self.has_ssl, self.origin = made["version"], made["has_ssl"], made["origin"]

    def standby(self) -> PrivatePostgres:
        """Return a streaming standby of this server, which must have been started; `start` makes the standby.

        The standby has a copy of the data. Close it before this server.
        """
        if self._janitor is None or self._server is None:
            raise PrivatePostgresError("a standby needs a primary that was started")
        made = PrivatePostgres(janitor=self._janitor)
        made._recipe = self._recipe | {"hba": [], "files": {}, "standby_of": self._server}
        return made

    def follow(self, primary: PrivatePostgres) -> None:
        """Restart from any state as a standby of *primary*, with a fresh copy of its data.

        Both servers must have the same janitor. The port stays.
        """
        self._ask("follow", primary=primary._server)

    def stop(self, mode: ShutdownMode = "fast") -> None:
        """Shut the server down, and keep its data for the next `start`; do nothing if it is down."""
        self._ask("stop", mode=mode)

    def restart(self, mode: ShutdownMode = "fast") -> None:
        """Stop and start, on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL the postmaster, and return when its children have ended too."""
        self._ask("kill")

    def freeze(self) -> None:
        """SIGSTOP all processes: connections stay open and silent, new ones are never answered."""
        self._ask("freeze")

    def thaw(self) -> None:
        """Continue all processes."""
        self._ask("thaw")

    def log(self) -> str:
        """Return the end of the server's log."""
        return str(self._ask("log"))

    def close(self) -> None:
        """Stop the server and remove all its files. Idempotent."""
        janitor, server = self._janitor, self._server
        self._server = None
        if janitor is not None and self._own_janitor:
            self._janitor = None
            janitor.close()
        elif server is not None and janitor is not None:
            janitor.ask("remove", server=server)

    def dsn(self, **keywords: object) -> str:
        """Return a connection string, key=value; *keywords* add or replace; ``None`` leaves one out."""
        standard = {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "postgres",
            "password": self._password,
            "dbname": "postgres",
        }
        return keyword_string(standard | keywords)

    def url(self, driver: str = "") -> str:
        """Return the same as a URI, for SQLAlchemy with the name of its *driver*: ``psycopg2``."""
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://postgres:{quote(self._password, safe='')}@127.0.0.1:{self.port}/postgres"

    def _ask(self, action: str, **arguments: object) -> Any:
        if self._janitor is None or self._server is None:
            raise PrivatePostgresError("the server was never started, or is closed")
        return self._janitor.ask(action, server=self._server, **arguments)
