"""The machine and the software of the measurement."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

DISTRIBUTIONS = ("pglisten", "gevent", "psycopg2-binary", "pg8000", "psycopg", "asyncpg", "pgnotify")


def description(server_version: str) -> dict[str, str]:
    """Return names and versions of machine, system and packages."""
    versions = {"PostgreSQL": server_version, "Python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    machine = f"{os.cpu_count()} cores of {_processor()}, {platform.system()} {platform.release()}"
    return {"machine": machine, **versions}


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
