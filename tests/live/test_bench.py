"""The benchmarks run; what they say is for people to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.mark.slow
def test_the_burst_benchmark_runs() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / "burst.py"), "--count", "2000", "--rounds", "1"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 + 6
