"""No APM agent sees anything of pglisten, and pglisten works under each of them.

Each agent runs in processes of its own, started before or after the import of all that it could patch. The
processes run the core live tests and marked.py; watched.py looks at what the agent has recorded.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.agents import AGENTS

FOLDER = Path(__file__).parent
LIVE = FOLDER.parent / "live"
TESTS = (
    FOLDER / "marked.py",
    LIVE / "listener" / "test_listener.py",
    LIVE / "listener" / "test_connection.py",
    LIVE / "listener" / "test_close.py",
    LIVE / "broadcast" / "test_broadcast.py",
)
LIMIT = 240
"""Seconds for one agent on a loaded machine; it takes less than a tenth."""


@pytest.mark.timeout(LIMIT + 10)
@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_records_nothing_of_pglisten(agent: str) -> None:
    command = [sys.executable, str(FOLDER / "watched.py"), agent]
    running = {
        moment: subprocess.Popen(
            [*command, moment, *map(str, TESTS)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for moment in ("before", "after", "patched")
    }
    try:
        said = {moment: process.communicate(timeout=LIMIT)[0] for moment, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    for moment, process in running.items():
        assert process.returncode == 0, f"{agent}, {moment}:\n{said[moment]}"
