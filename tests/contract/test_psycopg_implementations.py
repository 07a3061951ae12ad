"""psycopg 3 has three implementations of `psycopg.pq`: the backend keeps the contract on each one installed.

All other tests run on the binary one of psycopg's wheels. The one in Python calls the system's
libpq, which is another version, and takes texts and descriptors by other ways.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.fixtures.environment import leave_out

pytestmark = pytest.mark.slow

CONTRACT = Path(__file__).with_name("test_backends.py")
USED = "from psycopg import pq; print(pq.__impl__)"
CONCERNS = "TestOverTcp or TestLogin and not Unix or TestOverTls and (ssl or certificate or record or close)"
"""The tests of the contract that differ: a TLS session takes the same notifications and queries as TCP."""
LIMIT = 400
"""Seconds for the whole contract on a loaded machine; it takes a tenth."""


def _run(*command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
    )


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("implementation", ["c", "python"])
def test_an_implementation_keeps_the_contract(implementation: str) -> None:
    pytest.importorskip("psycopg")
    environment = os.environ | {"PSYCOPG_IMPL": implementation, "PGLISTEN_TEST_BACKENDS": "psycopg"}
    used = _run(sys.executable, "-c", USED, environment=environment)
    if used.stdout.strip() != implementation:
        leave_out(f"psycopg-{implementation}", f"it cannot be imported: {used.stderr.splitlines()[-1]}")
    pytest_here = str(Path(sys.executable).with_name("pytest"))
    options = ["-q", "-p", "no:cacheprovider", "-k", CONCERNS]
    ran = _run(pytest_here, *options, str(CONTRACT), environment=environment)
    assert ran.returncode == 0, ran.stdout[-5000:]
