"""``pglisten demo`` shows it all at work."""

from __future__ import annotations

import argparse
import sys

from .._demo.plan import plan
from .._demo.screen import Screen
from .ending import Work, exit_status
from .output import Output, wants_colour
from .stopping import until_stopped
from .target import fixed_dsn

__all__ = ["prepare"]


def prepare(arguments: argparse.Namespace) -> Work:
    """Check *arguments*, and return what shows the demo."""
    arguments.dsn = fixed_dsn(arguments)
    planned = plan(arguments)

    def work() -> int:
        stdout = Output(sys.stdout)
        screen = Screen(stdout, coloured=wants_colour(), names=planned.backends)
        # Processes and files would be left. Each step of the end has a limit of its own.
        until_stopped(lambda: planned.perform(screen), stdout, cleanup_timeout=None)
        return exit_status(stdout)

    return work
