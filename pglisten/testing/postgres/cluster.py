"""One private PostgreSQL cluster, as the janitor runs it. Blocking, standard library only."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from .folders import Launch
from .processes import children, remove_shared_memory, signal_all, wait_gone

__all__ = ["Cluster", "ClusterError", "ShutdownMode"]

ShutdownMode = Literal["smart", "fast", "immediate"]

_SIGNALS: Mapping[str, signal.Signals] = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}
"""PostgreSQL's shutdown modes (its documentation, 18.5)."""

START_TIMEOUT = 60.0
"""Seconds for a server to become ready; pg_ctl's own default."""

STOP_TIMEOUT = 10.0
"""Seconds for a server to stop by itself, before it is killed."""

BASE_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "120",
    "shared_buffers": "16MB",
    # The data must survive the death of the server, but not of the machine.
    "fsync": "off",
    "full_page_writes": "off",
    # Files in the data directory are removed with it; POSIX segments of a killed server would stay in
    # /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "autovacuum": "off",
    "max_logical_replication_workers": "0",
    "log_line_prefix": "%m [%p] ",
}


class ClusterError(Exception):
    """A server could not be started or stopped; the message ends with the tail of its log."""


class Cluster:
    """A data directory, and a server on it that can be stopped and started again on the same port."""

    def __init__(self, folder: Path, programs: Path, port: int, launch: Launch) -> None:
        """Use *folder*, whose ``data`` is, or will be, a copy of a template.

        *launch* holds the keywords for Popen that choose the user and the environment.
        """
        self.folder = folder
        self.port = port
        self._programs = programs
        self._launch = launch
        self._server: subprocess.Popen[Any] | None = None
        self._frozen: list[int] = []

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def running(self) -> bool:
        """Whether the postmaster lives, frozen or not."""
        return self._server is not None and self._server.poll() is None

    def configure(self, settings: Mapping[str, str]) -> None:
        """Append settings to postgresql.conf; later ones win."""
        all_settings = BASE_SETTINGS | {"unix_socket_directories": str(self.folder)} | dict(settings)
        lines = [f"{name} = {_quoted(value)}\n" for name, value in all_settings.items()]
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        if self.running:
            raise ClusterError("the server is running already")
        with (self.folder / "log").open("ab") as log:
            server = self._server = subprocess.Popen(  # noqa: S603 - programs of the user's own machine
                [self._programs / "postgres", "-D", self.data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._launch,
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._is_ready(server.pid):
            # Waiting for the end of the process is the pause, and notices a failure at once.
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(0.005)
                raise ClusterError(f"PostgreSQL did not start:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ClusterError(f"PostgreSQL was not ready within {START_TIMEOUT:g} s:\n{self.log_tail()}")

    def stop(self, mode: ShutdownMode = "fast") -> None:
        """Shut the server down; do nothing if it is down. A server that does not stop in time is killed."""
        server = self._server
        if server is None or not self.running:
            self._forget_shared_memory()
            return
        self.thaw()
        pids = children(server.pid)
        server.send_signal(_SIGNALS[mode])
        try:
            server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(
                f"PostgreSQL ignored a {mode} shutdown for {STOP_TIMEOUT:g} s, and was killed:\n"
                + self.log_tail()
            ) from None
        wait_gone(pids, STOP_TIMEOUT)

    def kill(self) -> None:
        """SIGKILL the postmaster and wait until its children are gone too; do nothing if it is down.

        The children notice the death by themselves and tell their clients; only those that stay are killed.
        """
        server = self._server
        if server is None or not self.running:
            return
        # Stopped first, so that it forks no child after the list of children was made.
        signal_all([server.pid], signal.SIGSTOP)
        pids = children(server.pid)
        server.kill()
        server.wait()
        signal_all(pids, signal.SIGCONT)
        self._frozen = []
        signal_all(wait_gone(pids, STOP_TIMEOUT), signal.SIGKILL)
        wait_gone(pids, STOP_TIMEOUT)
        self._forget_shared_memory()

    def freeze(self) -> None:
        """SIGSTOP every process of the server: the kernel accepts connections, but no process answers."""
        if self._server is None or not self.running:
            raise ClusterError("the server is not running")
        if not self._frozen:
            pid = self._server.pid
            signal_all([pid], signal.SIGSTOP)
            self._frozen = [*children(pid), pid]
            signal_all(self._frozen, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT every process, the postmaster last: it must not see stopped children."""
        signal_all(self._frozen, signal.SIGCONT)
        self._frozen = []

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        try:
            text = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def _is_ready(self, pid: int) -> bool:
        # Line 1 is the process id and line 8 the state (miscadmin.h, LOCK_FILE_LINE_PM_STATUS). The
        # file of a killed predecessor may still exist, and say "ready" too.
        lines = self._lock_file()
        return len(lines) > 7 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def _lock_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []

    def _forget_shared_memory(self) -> None:
        # Line 7 is "key id" of the segment that guards the data directory (LOCK_FILE_LINE_SHMEM_KEY).
        lines = self._lock_file()
        if len(lines) > 6 and len(fields := lines[6].split()) == 2:
            remove_shared_memory(int(fields[1]))


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
