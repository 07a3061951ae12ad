"""Runs a command until it ends, or until a signal or a closed output stops it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import ExitStack

import gevent
from gevent.event import Event

from .._greenlet import Greenlet, spawn
from .output import Output

__all__ = ["until_stopped"]

CLEANUP_TIMEOUT = 0.8
"""Seconds to clean up after a signal: the command ends within a second of Ctrl-C, even if the server hangs.
The end of the process ends the rest."""


def until_stopped(
    command: Callable[[], None],
    stdout: Output | None = None,
    *,
    cleanup_timeout: float | None = CLEANUP_TIMEOUT,
) -> int | None:
    """Run *command* in a greenlet and wait for its end; Ctrl-C, SIGTERM and *stdout*'s closing kill it.

    *cleanup_timeout* is for a command whose own end takes longer; ``None`` waits for it however long.
    Returns the number of the signal that killed it, else ``None``. Raises what *command* raises.
    """
    failures: list[Exception] = []
    reasons: list[int | None] = []
    stopped = Event()

    def run() -> None:
        try:
            command()
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's greenlet
            failures.append(error)

    worker = spawn("pglisten-command", run)
    worker.rawlink(lambda _: stopped.set())

    def stop(reason: int | None) -> None:
        # Kill once: a second kill would interrupt the cleaning up.
        if not reasons:
            reasons.append(reason)
            worker.kill(block=False)
            stopped.set()

    def stdout_closed(watcher: Greenlet) -> None:
        del watcher
        stop(None)

    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(gevent.signal_handler(number, stop, number).cancel)
        if stdout is not None:
            watcher = spawn("pglisten-stdout", stdout.wait_closed)
            watcher.rawlink(stdout_closed)
            stack.callback(watcher.kill)
        stopped.wait()
        worker.join(cleanup_timeout)
    for failure in failures:
        raise failure
    return reasons[0] if reasons else None
