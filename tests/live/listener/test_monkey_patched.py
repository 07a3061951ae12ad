"""The same tests pass in a monkey-patched process, where os, socket and time are gevent's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PATCHED = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--tb=short", *sys.argv[1:]]))
"""
TESTS = Path(__file__).parents[2]
LIMIT = 900
"""Seconds for the whole suite on a loaded machine."""


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 30)
@pytest.mark.parametrize(
    "name",
    [
        "contract/test_fake.py",
        "contract/test_backends.py",
        "live/listener/test_close.py",
        "live/listener/test_close_callers.py",
        "live/listener/test_connection.py",
        "live/listener/test_slow_network.py",
        "live/listener/test_listener.py",
        "live/listener/test_stalls.py",
        "live/listener/test_threads.py",
    ],
)
def test_it_all_holds_in_a_patched_process(name: str) -> None:
    # Isolated, or the current directory would be searched before the installed packages.
    command = [sys.executable, "-I", "-c", PATCHED, str(TESTS / name)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
