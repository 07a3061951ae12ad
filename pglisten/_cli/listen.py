"""``pglisten listen`` prints notifications."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial

from gevent.event import Event

from .._connection.host_choice import ends_attempt
from .._sql import check_channel
from .._text import one_line, visible
from ..backend import Notification
from ..errors import ConnectionFailed, ListenerClosed
from ..listener import Listener, ListenerEvent
from .ending import Work, exit_status
from .limits import Limits
from .output import Output, is_terminal, timestamp
from .stopping import until_stopped
from .target import dsn, target

__all__ = ["LONGEST_PAUSE", "ConnectionLog", "prepare"]

LONGEST_PAUSE = 10.0
"""Most seconds between two attempts: to a user who watches, a minute of silence looks like a hang."""


def prepare(arguments: argparse.Namespace) -> Work:
    """Check *arguments*, and return what prints the notifications."""
    goal, source = target(arguments), dsn(arguments)
    channels = [check_channel(channel) for channel in dict.fromkeys(arguments.channels)]
    form = _form(arguments)
    limits = Limits(arguments.count, arguments.timeout, "listening", "notifications")

    def work() -> int:
        stdout, stderr = Output(sys.stdout), Output(sys.stderr)

        def show(notification: Notification) -> None:
            stdout.line(form(notification))

        log = ConnectionLog(stderr, goal.description)
        make = partial(Listener, source, backend=goal.backend, max_reconnect_interval=LONGEST_PAUSE)
        command = _Command(make, channels, limits, show, log, retry=arguments.retry)
        stopped_by = until_stopped(command.run, stdout)
        return exit_status(stdout) or limits.status(stopped_by)

    return work


class _Command:
    """One run of ``pglisten listen``, with a listener that *make* makes.

    With *retry* it tries again if the server refuses the login before the first connection.
    """

    def __init__(
        self,
        make: Callable[..., Listener],
        channels: list[str],
        limits: Limits,
        show: Callable[[Notification], None],
        log: ConnectionLog,
        *,
        retry: bool,
    ) -> None:
        self._make = make
        self._channels = channels
        self._limits = limits
        self._show = show
        self._log = log
        self._retry = retry
        self._refusal: Exception | None = None
        self._listener: Listener | None = None

    def run(self) -> None:
        """Print notifications until there are enough or the time is over.

        Raises `ConnectionFailed` if the server refuses the login, and another attempt would change nothing.
        """
        with self._limits.running(), self._make(event_callback=self._event) as self._listener:
            self._listen(self._listener)

    def _listen(self, listener: Listener) -> None:
        try:
            for channel in self._channels:
                listener.listen(channel)
        except ListenerClosed:
            raise self._refusal or ListenerClosed("the listener was closed") from None
        self._log.connected.wait()
        self._log.write(f"listening to {', '.join(map(visible, self._channels))}")
        self._limits.begun = True
        for item in listener:
            if item is None:
                self._log.write("gap: some notifications may have been missed")
                continue
            if self._limits.print(partial(self._show, item)):
                return

    def _event(self, event: ListenerEvent, error: Exception | None) -> None:
        is_first = not (self._retry or self._log.connected.is_set())
        if is_first and isinstance(error, ConnectionFailed) and ends_attempt(error.sqlstate):
            assert self._listener is not None
            self._refusal = error
            self._listener.close()
        else:
            self._log.event(event, error)


class ConnectionLog:
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


def _form(arguments: argparse.Namespace) -> Callable[[Notification], str]:
    """Return what turns a notification into a line."""
    if not arguments.payload_only:
        return _as_json if arguments.json else _as_text
    # A terminal must not obey what any user of the database can send. A program gets the payload itself.
    return _as_payload if is_terminal() else lambda notification: notification.payload


def _as_payload(notification: Notification) -> str:
    return visible(notification.payload)


def _as_text(notification: Notification) -> str:
    pid, channel, payload = notification
    return f"{timestamp()}\t{visible(channel)}\t{pid}\t{visible(payload)}"


def _as_json(notification: Notification) -> str:
    # json.dumps writes ASCII, which is safe in every terminal and encoding.
    pid, channel, payload = notification
    return json.dumps({"time": timestamp(), "channel": channel, "pid": pid, "payload": payload})
