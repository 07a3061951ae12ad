"""``pglisten listen`` prints notifications."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from gevent.event import Event

from .._sql import check_channel
from .._text import one_line, visible
from ..backend import Backend, Notification
from ..errors import ListenerClosed
from ..listener import Listener, ListenerEvent
from .ending import Work, exit_status
from .output import Output, timestamp
from .stopping import until_stopped
from .target import dsn, target

__all__ = ["prepare"]

LONGEST_PAUSE = 10.0
"""Most seconds between two attempts: to a user who watches, a minute of silence looks like a hang."""


def prepare(arguments: argparse.Namespace) -> Work:
    goal = target(arguments)
    channels = [check_channel(channel) for channel in dict.fromkeys(arguments.channels)]
    form = _as_json if arguments.json else _as_text
    source = dsn(arguments)

    def work() -> int:
        stdout, log = Output(sys.stdout), _ConnectionLog(Output(sys.stderr), goal.description)

        def show(notification: Notification) -> None:
            stdout.line(form(notification))

        until_stopped(lambda: _listen(source, goal.backend, channels, show, log), stdout)
        return exit_status(stdout)

    return work


def _listen(
    dsn: str, backend: Backend, channels: list[str], show: Callable[[Notification], None], log: _ConnectionLog
) -> None:
    with Listener(
        dsn, backend=backend, event_callback=log.event, max_reconnect_interval=LONGEST_PAUSE
    ) as listener:
        for channel in channels:
            listener.listen(channel)
        log.connected.wait()
        log.write(f"listening to {', '.join(map(visible, channels))}")
        for item in listener:
            if item is None:
                log.write("gap: some notifications may have been missed")
            else:
                show(item)


class _ConnectionLog:
    """Prints on standard error what happens to the connection."""

    def __init__(self, stderr: Output, where: str) -> None:
        self._stderr = stderr
        self._where = where
        self.connected = Event()
        """Set after the first connection has been printed."""

    def write(self, text: str) -> None:
        self._stderr.line(f"{timestamp()}\tpglisten: {text}")

    def event(self, event: ListenerEvent, error: Exception | None) -> None:
        if event is ListenerEvent.CONNECTION_ATTEMPT_FAILED:
            self.write(f"attempt failed, trying again: {one_line(error)}")
        elif event is not ListenerEvent.DISCONNECTED:
            self.write(f"{event.value} to {self._where}")
            self.connected.set()
        elif not isinstance(error, ListenerClosed):
            self.write(f"disconnected: {one_line(error)}")


def _as_text(notification: Notification) -> str:
    pid, channel, payload = notification
    return f"{timestamp()}\t{visible(channel)}\t{pid}\t{visible(payload)}"


def _as_json(notification: Notification) -> str:
    # json.dumps writes ASCII, which is safe in every terminal and encoding.
    pid, channel, payload = notification
    return json.dumps({"time": timestamp(), "channel": channel, "pid": pid, "payload": payload})
