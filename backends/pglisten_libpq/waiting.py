"""The one loop that drives what libpq does in steps, while gevent waits."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import TypeVar

from pglisten.backend import Deadline, DeadlinePassed, OwnedDescriptor, wait_ready

__all__ = ["Forked", "Step", "descriptor_error", "drive"]

DriverError = TypeVar("DriverError", bound=Exception)

GRACE_SECONDS = 5.0
"""How long, in seconds, `drive` still reads for an answer after the deadline while data arrives without a
pause. If the hub was blocked, the answer may stand behind all that the socket's buffer holds."""


class Step(enum.Enum):
    """What the next step needs."""

    READ = enum.auto()
    WRITE = enum.auto()
    NOTHING = enum.auto()
    """There is no next step."""


class Forked(Exception):
    """A forked child's copy of the waiting greenlet has run. The answer belongs to the parent process."""

    def __init__(self) -> None:
        super().__init__("this process was forked: the connection is its parent's")


def descriptor_error() -> OSError | None:
    """Return the error if the system has no descriptor left; ``None`` if it has.

    libpq has no text if it could not make its socket.
    """
    try:
        with open(os.devnull, "rb"):
            return None
    except OSError as error:
        return error


def drive(
    step: Callable[[], Step | DriverError],
    fileno: Callable[[], int],
    deadline: Deadline,
    *,
    owner: int | None = None,
) -> DriverError | None:
    """Call *step* until it returns ``NOTHING``; in between, wait until the descriptor is ready.

    A step returns the driver's error, and this function returns it too. An error of the same class may be
    thrown in from outside during a wait, and only that one is raised. Also raises `DeadlinePassed` after
    *deadline*. If *owner* is given, it is the id of this process. A forked child's copy of the waiting
    greenlet then diverts the descriptor and raises `Forked`, because it would read data of the parent.

    Each wait gives the event loop one turn, even if data has arrived already.
    """
    late = False
    while (needed := step()) is not Step.NOTHING:
        if isinstance(needed, Exception):
            return needed
        # The overrun is for a server that never stops sending: the wait below then never times out.
        if late or deadline.overrun() > GRACE_SECONDS:
            raise DeadlinePassed
        # Ask for the descriptor each time: while connecting, libpq makes a new socket for each try.
        # With data to write, wait for reading as well: a server that is blocked because it sends to us
        # reads nothing before we do (PostgreSQL docs, PQflush).
        descriptor = None if owner is None else OwnedDescriptor(fileno())
        try:
            # If late, take one more step: the answer may have arrived while the hub was blocked.
            late = not wait_ready(fileno(), deadline.remaining(), writable=needed is Step.WRITE)
        finally:
            forked = descriptor is not None and os.getpid() != owner
            if forked and descriptor is not None:
                descriptor.divert()
        if forked:
            raise Forked
    return None
