"""Build the Go program from the distribution's packages, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("libpq.go")

GOPATH = Path("/usr/share/gocode")
"""The folder of Debian's packages of Go libraries."""


def missing() -> str:
    """Return what is not installed; empty if nothing is missing."""
    if shutil.which("go") is None:
        return "golang-go"
    if not (GOPATH / "src/github.com/lib/pq").is_dir():
        return "golang-github-lib-pq-dev"
    return ""


def build(folder: Path) -> Path | None:
    """Build the program in *folder*; return ``None`` if a package is missing, or the compiler fails."""
    if missing():
        return None
    program = folder / "libpq"
    environment = os.environ | {"GOPATH": str(GOPATH), "GO111MODULE": "off", "GOCACHE": str(folder / "cache")}
    done = subprocess.run(["go", "build", "-o", program, SOURCE], check=False, env=environment)
    return None if done.returncode else program
