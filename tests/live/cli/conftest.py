from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.command_line import PYTHON, Process, Start
from support.doctor import Examine, examiner


@pytest.fixture
def examine(capfd: pytest.CaptureFixture[str], backend_name: str) -> Examine:
    """Run the doctor and return what it finds."""
    return examiner(capfd, backend_name)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the command line with some arguments; keywords are environment variables."""
    with ExitStack() as stack:

        def start(*arguments: str, stdout: int = subprocess.PIPE, **variables: str) -> Process:
            process = subprocess.Popen(
                [*PYTHON, *arguments],
                # Not the project's folder, whose source would hide the installed package.
                cwd=tmp_path,
                env=os.environ | variables,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start
