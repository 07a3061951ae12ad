"""What the janitor asks of the operating system: processes, a user, folders, a port.

Everything here blocks. It runs in the janitor's process, which has nothing else to do meanwhile.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = [
    "adopt_orphans",
    "children",
    "clean_environment",
    "free_port",
    "remove_shared_memory",
    "roomy_directory",
    "server_user",
    "signal_all",
    "wait_gone",
]

ROOM = 512 * 1024 * 1024
"""Free bytes that /dev/shm must have to be used: a server needs 60 MB, and Docker gives /dev/shm 64 MB."""

_PR_SET_CHILD_SUBREAPER = 36
"""From linux/prctl.h."""

_IPC_RMID = 0
"""From sys/ipc.h, the same on Linux, macOS and the BSDs."""

_LOWEST_PORT = 10_000
_USUAL_EPHEMERAL_START = 32_768
"""Where Linux starts its ephemeral ports unless told otherwise."""


def adopt_orphans() -> None:
    """Become the parent of every orphan below this process, on Linux; elsewhere do nothing.

    Otherwise the children of a killed postmaster would become children of process 1. In a container process 1
    may be any program, and they would stay zombies.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


SERVER_USERS = ("postgres", "nobody")
"""Users that PostgreSQL may run as if this process is root's."""


def server_user() -> dict[str, Any]:
    """Return the keywords that make Popen run PostgreSQL as another user than root, which it refuses."""
    if os.geteuid() != 0:
        return {}
    for name in SERVER_USERS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            # Without extra_groups=[] the server would keep root's groups.
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise OSError(
        f"PostgreSQL refuses to run as root, and there is no user {' or '.join(SERVER_USERS)} to run it as"
    )


def clean_environment(home: Path) -> dict[str, str]:
    """Return this process's environment without ``PG*``, with English messages and with *home* as HOME."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    for name in [name for name in environment if name == "LANG" or name.startswith("LC_")]:
        del environment[name]
    return environment | {"LC_ALL": "C", "HOME": str(home)}


def roomy_directory() -> str:
    """Return where to make folders: /dev/shm if it has room, otherwise the folder for temporary files."""
    with contextlib.suppress(OSError):
        if shutil.disk_usage("/dev/shm").free >= ROOM and os.access("/dev/shm", os.W_OK):  # noqa: S108 - checked
            return "/dev/shm"  # noqa: S108
    return tempfile.gettempdir()


def free_port() -> int:
    """Return a free port of 127.0.0.1 below the ephemeral ones.

    A client that retries an ephemeral port on which no server listens will at some time get the same number
    as its own port, and connect to itself.
    """
    end = _ephemeral_start()
    for _ in range(1000):
        port = random.randrange(_LOWEST_PORT, end)  # noqa: S311 - no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            # PostgreSQL sets it too; without it a port in TIME_WAIT would seem to be in use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port on 127.0.0.1 between {_LOWEST_PORT} and {end}")


def _ephemeral_start() -> int:
    try:
        start = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return _USUAL_EPHEMERAL_START
    # Some machines make nearly all ports ephemeral, and then too few ports are below them.
    return start if start > _LOWEST_PORT + 1000 else _USUAL_EPHEMERAL_START


def children(parent: int) -> list[int]:
    """Return the process ids of the children of *parent*."""
    return [pid for pid, its_parent in _parents() if its_parent == parent]


def _parents() -> Iterator[tuple[int, int]]:
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - PATH is the user's choice
            capture_output=True,
            text=True,
            check=True,
        )
        for line in listing.stdout.splitlines():
            pid, parent = line.split()
            yield int(pid), int(parent)
        return
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            # A process may end between the listing and the reading.
            with contextlib.suppress(OSError):
                # The name in parentheses may hold spaces; the parent is the second field after it.
                after_name = Path(entry.path, "stat").read_text(errors="replace").rpartition(")")[2]
                yield int(entry.name), int(after_name.split()[1])


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_gone(pids: list[int], timeout: float) -> list[int]:
    """Wait until processes have ended, at most *timeout* seconds; return those that have not."""
    deadline = time.monotonic() + timeout
    while (remaining := [pid for pid in pids if _exists(pid)]) and time.monotonic() < deadline:
        time.sleep(0.005)  # there is no portable event for the end of another process's child
    return remaining


def _exists(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, os.WNOHANG)[0] == 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def remove_shared_memory(identifier: int) -> None:
    """Remove a System V segment of a killed server, if it still exists."""
    ctypes.CDLL(None).shmctl(identifier, _IPC_RMID, None)
