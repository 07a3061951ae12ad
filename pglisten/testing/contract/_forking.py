"""A function run in a forked child of the test's process."""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

__all__ = ["in_a_forked_child"]

_LIMIT = 20
"""Seconds until a child that hangs is ended by its alarm."""


def in_a_forked_child(function: Callable[[], None]) -> None:
    """Run *function* in a forked child and wait for its end; `AssertionError` if it raised.

    The child never returns into the test, and never runs its hub. What it prints goes to the test's
    standard error.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of any thread: gevent's pool has some, and the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _run_and_exit(function)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the forked child failed: see its traceback"


def _run_and_exit(function: Callable[[], None]) -> None:
    status = 1
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_LIMIT)
        function()
        gc.collect()  # what only a destructor would do
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may leave the child but its status
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)
