"""``pglisten listen`` prints notifications."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gevent
from gevent.event import Event

from .._connection.host_choice import ends_attempt
from .._conninfo.urls import Dsn
from .._sql import check_channel
from .._text import one_line, visible
from ..backend import Backend, Notification
from ..errors import ConnectionFailed, ListenerClosed
from ..listener import Listener, ListenerEvent
from .ending import Work, complain, exit_status
from .output import Output, is_terminal, timestamp
from .stopping import until_stopped
from .target import dsn, target

__all__ = ["LONGEST_PAUSE", "ConnectionLog", "prepare"]

LONGEST_PAUSE = 10.0
"""Most seconds between two attempts: to a user who watches, a minute of silence looks like a hang."""


TIME_OVER = 124
"""The exit status if the time is over too early: that of ``timeout`` of GNU coreutils."""


def prepare(arguments: argparse.Namespace) -> Work:
    """Check *arguments*, and return what prints the notifications."""
    goal, source = target(arguments), dsn(arguments)
    channels = [check_channel(channel) for channel in dict.fromkeys(arguments.channels)]
    form = _form(arguments)
    wanted = Wanted(channels, arguments.count, arguments.timeout, arguments.retry)

    def work() -> int:
        stdout, stderr = Output(sys.stdout), Output(sys.stderr)

        def show(notification: Notification) -> None:
            stdout.line(form(notification))

        log = ConnectionLog(stderr, goal.description)
        command = _Command(source, goal.backend, wanted, show, log)
        stopped_by = until_stopped(command.run, stdout)
        return exit_status(stdout) or command.status(stopped_by)

    return work


@dataclass(frozen=True)
class Wanted:
    """What to listen to, and when to end."""

    channels: list[str]
    count: int | None
    """Notifications after which to end; ``None``: never."""
    timeout: float | None
    """Seconds after which to end; ``None``: never."""
    retry: bool
    """Whether to try again if the server refuses the login before the first connection."""


class _Command:
    """One run of ``pglisten listen``."""

    def __init__(
        self,
        source: Dsn,
        backend: Backend,
        wanted: Wanted,
        show: Callable[[Notification], None],
        log: ConnectionLog,
    ) -> None:
        self._wanted = wanted
        self._show = show
        self._log = log
        self._received = 0
        self._is_listening = False
        self._is_late = False
        self._refusal: Exception | None = None
        self._make = partial(Listener, source, backend=backend, max_reconnect_interval=LONGEST_PAUSE)
        self._listener: Listener | None = None

    def run(self) -> None:
        """Print notifications until there are enough or the time is over.

        Raises `ConnectionFailed` if the server refuses the login, and another attempt would change nothing.
        """
        time_over = gevent.Timeout(self._wanted.timeout)
        try:
            with time_over, self._make(event_callback=self._event) as self._listener:
                self._listen(self._listener)
        except gevent.Timeout as error:
            if error is not time_over:
                raise
            self._is_late = True

    def status(self, stopped_by: int | None) -> int:
        """Return the exit status, and say why if it is an error. *stopped_by* is the signal, if any."""
        count, timeout = self._wanted.count, self._wanted.timeout
        if stopped_by is not None:
            # Without a number to wait for, Ctrl-C is the usual end.
            return 0 if count is None else 128 + stopped_by
        if not self._is_late or (self._is_listening and count is None):
            return 0
        if not self._is_listening:
            return complain(f"not listening within {timeout:g} s", TIME_OVER)
        return complain(f"{self._received} of {count} notifications arrived within {timeout:g} s", TIME_OVER)

    def _listen(self, listener: Listener) -> None:
        try:
            for channel in self._wanted.channels:
                listener.listen(channel)
        except ListenerClosed:
            raise self._refusal or ListenerClosed("the listener was closed") from None
        self._log.connected.wait()
        self._log.write(f"listening to {', '.join(map(visible, self._wanted.channels))}")
        self._is_listening = True
        for item in listener:
            if item is None:
                self._log.write("gap: some notifications may have been missed")
                continue
            self._show(item)
            self._received += 1
            if self._received == self._wanted.count:
                return

    def _event(self, event: ListenerEvent, error: Exception | None) -> None:
        is_first = not (self._wanted.retry or self._log.connected.is_set())
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
