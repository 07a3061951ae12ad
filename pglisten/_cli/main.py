"""The command line: ``pglisten listen``, ``notify``, ``doctor`` and ``demo``.

Each command is prepared before it runs. The preparation checks all arguments and changes nothing, so that a
command with exit status 2 has changed nothing. The exception is a private server of the demo that fails.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from gevent.event import Event

from .._connection.target import Target
from .._demo.plan import plan
from .._demo.screen import Screen
from .._sql import MAX_PAYLOAD, check_channel, check_payload
from .._text import one_line, visible
from ..backend import Backend, Notification
from ..connection import ListenerConnection
from ..errors import Error, ListenerClosed
from ..listener import Listener, ListenerEvent
from ..testing.postgres.server import PrivatePostgresError
from .arguments import DSN_VARIABLE, parser
from .doctor.checks import CHECKS, Diagnosis
from .doctor.report import Report
from .output import Output, timestamp
from .stopping import until_stopped

__all__ = ["main"]

NOTIFY_TIMEOUT = 30.0
"""Seconds for a NOTIFY to be committed. Commits with NOTIFY queue for a lock of the whole server, so a few
seconds are normal. A user waits at a prompt, so there must be a limit."""

LONGEST_PAUSE = 10.0
"""Most seconds between two attempts: to a user who watches, a minute of silence looks like a hang."""

Work = Callable[[], int]
"""Runs a prepared command and returns the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in *argv* (``None``: the arguments of this process) and return its exit status."""
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # See pglisten.__main__.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _run(argv)
    except KeyboardInterrupt:  # Before the command handles it, for example while reading a payload.
        return 128 + signal.SIGINT


def _run(argv: Sequence[str] | None) -> int:
    read = parser(listen=_prepare_listen, notify=_prepare_notify, doctor=_prepare_doctor, demo=_prepare_demo)
    arguments = read.parse_args(argv)
    # The listener logs failed attempts as warnings; this command line prints them itself.
    logging.getLogger("pglisten.listener").setLevel(logging.ERROR)
    try:
        work: Work = arguments.prepare(arguments)
    except ValueError as error:  # every refusal of an argument or setting is one: see pglisten.errors
        return _complain(error, 2)
    try:
        return work()
    except PrivatePostgresError as error:
        return _complain(error, 2)
    except Error as error:
        return _complain(error, 1)


# listen


def _prepare_listen(arguments: argparse.Namespace) -> Work:
    target = _target(arguments)
    channels = [check_channel(channel) for channel in dict.fromkeys(arguments.channels)]
    form = _as_json if arguments.json else _as_text
    dsn = _dsn(arguments)

    def work() -> int:
        stdout, log = Output(sys.stdout), _ConnectionLog(Output(sys.stderr), target.description)

        def show(notification: Notification) -> None:
            stdout.line(form(notification))

        until_stopped(lambda: _listen(dsn, target.backend, channels, show, log), stdout)
        return _exit_status(stdout)

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


# notify


def _prepare_notify(arguments: argparse.Namespace) -> Work:
    backend = _target(arguments).backend
    channel = check_channel(arguments.channel)
    payload = check_payload(_standard_input() if arguments.payload == "-" else arguments.payload)
    dsn = _dsn(arguments)

    def send() -> None:
        with ListenerConnection(dsn, backend=backend) as connection:
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


# doctor


def _prepare_doctor(arguments: argparse.Namespace) -> Work:
    # Check and log nothing here: the doctor reports errors of the DSN and the backend, and what backends and
    # the password file warn of.
    logging.getLogger("pglisten").setLevel(logging.ERROR)
    diagnosis = Diagnosis(_dsn(arguments), arguments.backend, arguments.timeout)

    def work() -> int:
        stdout = Output(sys.stdout)
        report = Report(
            stdout,
            as_json=arguments.json,
            for_terminal=_is_terminal(),
            coloured=_wants_colour(),
            names=tuple(check.name for check in CHECKS),
        )

        def examine() -> None:
            for name, verdict in diagnosis.run():
                report.add(name, verdict)
            report.end(diagnosis.backend)

        stopped_by = until_stopped(examine, stdout)
        if stopped_by is not None:
            return 128 + stopped_by
        return _exit_status(stdout) or int(not report.ok)

    return work


# demo


def _prepare_demo(arguments: argparse.Namespace) -> Work:
    planned = plan(arguments)

    def work() -> int:
        stdout = Output(sys.stdout)
        screen = Screen(stdout, coloured=_wants_colour(), names=planned.backends)
        # Processes and files would be left. Each step of the end has a limit of its own.
        until_stopped(lambda: planned.perform(screen), stdout, cleanup_timeout=None)
        return _exit_status(stdout)

    return work


def _is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def _wants_colour() -> bool:
    # By no-color.org the variable counts if it is not empty.
    return _is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


# What the commands share


def _dsn(arguments: argparse.Namespace) -> str:
    dsn: str | None = arguments.dsn
    return os.environ.get(DSN_VARIABLE, "") if dsn is None else dsn


def _target(arguments: argparse.Namespace) -> Target:
    return Target(_dsn(arguments), arguments.backend, None)


def _exit_status(stdout: Output) -> int:
    # Without an error the reader has closed the pipe, as ``| head -1`` does: that is a success.
    if stdout.error is None:
        return 0
    return _complain(f"standard output cannot be written: {stdout.error.strerror}", 1)


def _complain(error: object, status: int) -> int:
    # The message of a private server has its log in several lines; every other message is one line.
    lines = str(error).splitlines() if isinstance(error, PrivatePostgresError) else [str(error)]
    stderr = Output(sys.stderr)
    for line in (f"pglisten: {lines[0]}", *lines[1:]):
        stderr.line(one_line(line))
    return status
