"""``pglisten notify`` sends one notification."""

from __future__ import annotations

import argparse
import sys

from .._sql import MAX_PAYLOAD, check_channel, check_payload
from ..connection import ListenerConnection
from .ending import Work
from .stopping import until_stopped
from .target import dsn, target

__all__ = ["prepare"]

NOTIFY_TIMEOUT = 30.0
"""Seconds for a NOTIFY to be committed. Commits with NOTIFY queue for a lock of the whole server, so a few
seconds are normal. A user waits at a prompt, so there must be a limit."""


def prepare(arguments: argparse.Namespace) -> Work:
    backend = target(arguments).backend
    channel = check_channel(arguments.channel)
    payload = check_payload(_standard_input() if arguments.payload == "-" else arguments.payload)
    source = dsn(arguments)

    def send() -> None:
        with ListenerConnection(source, backend=backend) as connection:
            connection.notify(channel, payload, NOTIFY_TIMEOUT)

    def work() -> int:
        stopped_by = until_stopped(send)
        # Stopped, it may or may not have sent the notification: not a success.
        return 0 if stopped_by is None else 128 + stopped_by

    return work


def _standard_input() -> str:
    """Return standard input without one newline at the end; read no more than shows that it is too long.

    Blocks the hub: no connection exists yet.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - closed from the start
        raise ValueError("standard input is closed: write the payload instead of -")
    data = sys.stdin.buffer.read(MAX_PAYLOAD + 2)
    try:
        return data.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"standard input is not UTF-8 (byte {error.start + 1}): convert it first") from error
