"""The temporary folders of one janitor, made for the server's user and removed together."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Folders", "Launch"]

Launch = Mapping[str, Any]
"""Keywords for Popen that choose the user a server runs as, and its environment."""


class Folders:
    """Folders that only the server's user and root can enter."""

    def __init__(self, launch: Launch) -> None:
        """Remember the keywords for Popen that choose the user."""
        self._launch = launch
        self._made: list[Path] = []

    def make(self, place: str) -> Path:
        """Make a folder in *place*. Raises OSError if that is impossible."""
        # Short, because the path of a Unix socket below it may have 103 bytes on macOS, 107 on Linux.
        folder = Path(tempfile.mkdtemp(prefix="pglisten-", dir=place))
        self._made.append(folder)
        self.give(folder)
        return folder

    def give(self, path: Path) -> None:
        """Make the server's user the owner of a file or folder."""
        if "user" in self._launch:
            os.chown(path, self._launch["user"], self._launch["group"])

    def copy_in(self, source: Path, folder: Path) -> Path:
        """Copy a tree into *folder* for the server's user, who owns all of it; return the copy."""
        copy = Path(shutil.copytree(source, folder / source.name, symlinks=True))
        for directory, names, files in os.walk(copy):
            for name in (".", *names, *files):
                os.chown(
                    os.path.join(directory, name),
                    self._launch["user"],
                    self._launch["group"],
                    follow_symlinks=False,
                )
        return copy

    def remove(self) -> None:
        """Remove all folders."""
        for folder in self._made:
            # One folder that cannot be removed must not prevent the removal of the others.
            shutil.rmtree(folder, ignore_errors=True)
        self._made.clear()
