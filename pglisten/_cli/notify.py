"""``pglisten notify`` sends one notification."""

from __future__ import annotations

import argparse
import fcntl
import os
import stat
import sys
import termios

from .._sql import MAX_PAYLOAD, check_channel, check_payload
from ..connection import ListenerConnection
from .ending import Work, complain
from .stopping import until_stopped
from .target import dsn, target

__all__ = ["prepare", "standard_input"]

NOTIFY_TIMEOUT = 30.0
"""Seconds for a NOTIFY to be committed. Commits with NOTIFY queue for a lock of the whole server, so a few
seconds are normal. A user waits at a prompt, so there must be a limit."""


UNREAD = (
    "the payload sent is empty, but standard input has data that was not read: to send it, write - as the "
    "payload (pglisten notify CHANNEL -); to send an empty payload, write ''"
)


def prepare(arguments: argparse.Namespace) -> Work:
    """Check *arguments* and the payload, and return what sends the notification."""
    goal, source = target(arguments), dsn(arguments)
    channel = check_channel(arguments.channel)
    given: str | None = arguments.payload
    payload = check_payload(standard_input(MAX_PAYLOAD) if given == "-" else given or "")

    def send() -> None:
        with ListenerConnection(source, backend=goal.backend) as connection:
            connection.notify(channel, payload, NOTIFY_TIMEOUT)

    def work() -> int:
        stopped_by = until_stopped(send)
        if given is None and _has_unread_data():
            complain(UNREAD, 0)
        # Stopped, it may or may not have sent the notification: not a success.
        return 0 if stopped_by is None else 128 + stopped_by

    return work


def _has_unread_data() -> bool:
    """Return whether something is redirected into standard input and can be read now. Never waits.

    Not an error: a script's loop over the lines of a file has that file on standard input.
    """
    try:
        descriptor = sys.stdin.fileno()
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            return os.lseek(descriptor, 0, os.SEEK_CUR) < found.st_size
        if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISSOCK(found.st_mode)):
            return False
        waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder) > 0
    except (AttributeError, OSError, ValueError):  # It is closed, or not a file.
        return False


def standard_input(limit: int) -> str:
    """Return standard input without one newline at the end; read no more than shows that it exceeds *limit*.

    Blocks the hub: no connection exists yet.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - closed from the start
        raise ValueError("standard input is closed: write the payload instead of -")
    data = sys.stdin.buffer.read(limit + 2)
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 (byte {error.start + 1}): convert it first") from error
