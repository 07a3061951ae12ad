"""How a command ends: its exit status and its last message."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .._text import one_line
from ..testing.postgres.server import PrivatePostgresError
from .output import Output

__all__ = ["Work", "complain", "exit_status"]

Work = Callable[[], int]
"""Runs a prepared command and returns the exit status."""


def exit_status(stdout: Output) -> int:
    # Without an error the reader has closed the pipe, as ``| head -1`` does: that is a success.
    if stdout.error is None:
        return 0
    return complain(f"standard output cannot be written: {stdout.error.strerror}", 1)


def complain(error: object, status: int) -> int:
    # The message of a private server has its log in several lines; every other message is one line.
    lines = str(error).splitlines() if isinstance(error, PrivatePostgresError) else [str(error)]
    stderr = Output(sys.stderr)
    for line in (f"pglisten: {lines[0]}", *lines[1:]):
        stderr.line(one_line(line))
    return status
