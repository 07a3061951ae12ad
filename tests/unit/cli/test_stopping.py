"""How a command is stopped, and how long its end may take."""

from __future__ import annotations

import os
import signal

import gevent
import pytest

from pglisten._cli.stopping import CLEANUP_TIMEOUT, until_stopped

LONGER = CLEANUP_TIMEOUT * 1.5


def stop_one_that_cleans_up(cleanup_timeout: float | None) -> list[str]:
    """Return what a command has done that is stopped by SIGTERM, and takes `LONGER` to clean up."""
    done = []

    def command() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            gevent.sleep(60)
        finally:
            gevent.sleep(LONGER)
            done.append("cleaned up")

    assert until_stopped(command, cleanup_timeout=cleanup_timeout) == signal.SIGTERM
    return done


@pytest.mark.parametrize(("cleanup_timeout", "done"), [(None, ["cleaned up"]), (CLEANUP_TIMEOUT, [])])
def test_a_command_that_leaves_processes_is_waited_for(
    cleanup_timeout: float | None, done: list[str]
) -> None:
    assert stop_one_that_cleans_up(cleanup_timeout) == done
