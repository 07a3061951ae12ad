"""``pglisten log`` makes, fills, follows, trims and drops event logs."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from .._connection.host_choice import ends_attempt
from .._eventlog.missing import NO_TABLE, no_log
from .._eventlog.names import LogNames
from .._eventlog.schema import MAX_ENTRY, create_sql, drop_sql
from .._eventlog.writing import append_sql, check_entry
from .._sql import check_channel
from .._text import visible
from ..broadcast import Broadcaster
from ..connection import ListenerConnection
from ..errors import ConfigurationError, ConnectionFailed, Error, ListenerClosed, NotConnected, ServerError
from ..eventlog import Entry, EventLog, LogStatus
from ..listener import ListenerEvent
from .ending import Work, complain, exit_status
from .limits import Limits
from .listen import LONGEST_PAUSE, ConnectionLog
from .notify import standard_input
from .output import Output, local_time
from .stopping import until_stopped
from .target import dsn, target

__all__ = ["prepare"]

TIMEOUT = 30.0
"""Seconds for a statement: it may wait for locks of other sessions. A user waits at a prompt."""

MOST_TRIMMING = 3600.0
"""Seconds for all steps of ``trim``: each step has a limit of its own."""

Line = Callable[[str], None]
"""Prints a line on standard output."""


def prepare(arguments: argparse.Namespace) -> Work:
    """Check *arguments*, and return what runs the command of ``pglisten log``."""
    names = LogNames(arguments.name, arguments.schema)
    if arguments.action == "create" and arguments.sql:
        return _work(names, lambda line: line(create_sql(names) + ";"))
    if arguments.action == "follow":
        limits = Limits(arguments.count, arguments.timeout, "following", "entries")
        return _work(names, _follow(arguments, names, limits), limits.status)
    return _work(names, _ACTIONS[arguments.action](arguments, names))


def _stopped(stopped_by: int | None) -> int:
    """Return the exit status: stopped by a signal, it may or may not have changed the log."""
    return 0 if stopped_by is None else 128 + stopped_by


def _work(
    names: LogNames, action: Callable[[Line], None], status: Callable[[int | None], int] = _stopped
) -> Work:
    def run(stdout: Output) -> None:
        try:
            action(stdout.line)
        except ServerError as error:
            if error.sqlstate != NO_TABLE:
                raise
            told = f"{error.severity} {error.sqlstate}: {error.message}"
            raise Error(f"{error.hint or no_log(names)} ({told})") from error

    def work() -> int:
        stdout = Output(sys.stdout)
        try:
            stopped_by = until_stopped(partial(run, stdout), stdout)
        except ConfigurationError as error:  # A position that is not there yet: only the server knows.
            return complain(error, 2)
        return exit_status(stdout) or status(stopped_by)

    return work


def _execute(arguments: argparse.Namespace, sql: str) -> Callable[[Line], None]:
    goal, source = target(arguments), dsn(arguments)

    def run(_: Line) -> None:
        with ListenerConnection(source, backend=goal.backend) as connection:
            connection.execute(sql, TIMEOUT)

    return run


def _create(arguments: argparse.Namespace, names: LogNames) -> Callable[[Line], None]:
    return _execute(arguments, create_sql(names))


def _append(arguments: argparse.Namespace, names: LogNames) -> Callable[[Line], None]:
    payload = standard_input(MAX_ENTRY) if arguments.payload == "-" else arguments.payload
    check_entry(arguments.channel, payload)
    return _execute(arguments, append_sql(names, arguments.channel, payload))


def _drop(arguments: argparse.Namespace, names: LogNames) -> Callable[[Line], None]:
    if not arguments.yes:
        raise ConfigurationError(f"this removes {names} with all its entries: confirm it with --yes")
    return _execute(arguments, drop_sql(names, missing_ok=False))


def _over(
    arguments: argparse.Namespace, names: LogNames, use: Callable[[EventLog, Line], None]
) -> Callable[[Line], None]:
    """Return what calls *use* with the log, over one session."""
    goal, source = target(arguments), dsn(arguments)

    def run(line: Line) -> None:
        with Broadcaster(source, backend=goal.backend) as broadcaster:
            try:
                use(EventLog(names.name, broadcaster, schema=names.schema), line)
            except NotConnected as error:
                raise error.__cause__ or error from None

    return run


def _trim(arguments: argparse.Namespace, names: LogNames) -> Callable[[Line], None]:
    if arguments.older_than is None and arguments.keep is None:
        raise ConfigurationError("say what to remove: --older-than, --keep or both")

    def use(log: EventLog, line: Line) -> None:
        removed = log.trim(older_than=arguments.older_than, keep=arguments.keep, timeout=MOST_TRIMMING)
        line(f"{removed} {'entry' if removed == 1 else 'entries'} removed")

    return _over(arguments, names, use)


def _status(arguments: argparse.Namespace, names: LogNames) -> Callable[[Line], None]:
    def use(log: EventLog, line: Line) -> None:
        status = log.status(timeout=TIMEOUT)
        if arguments.json:
            line(json.dumps(dataclasses.asdict(status), default=datetime.isoformat))
        else:
            for text in _lines(status):
                line(text)

    return _over(arguments, names, use)


def _lines(status: LogStatus) -> list[str]:
    figures = dataclasses.asdict(status)
    del figures["consumers"]
    lines = [f"{name:<10} {'-' if value is None else value}" for name, value in figures.items()]
    columns = ("consumer", "position", "behind", "active", "updated")
    rows: Sequence[Sequence[str]] = [
        (visible(each.name), str(each.position), str(each.behind), "yes" if each.active else "no",
         local_time(each.updated, "seconds"))
        for each in status.consumers
    ]  # fmt: skip
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if rows:
        lines += ["", *("  ".join(map(str.ljust, row, widths)).rstrip() for row in (columns, *rows))]
    return lines


# follow


def _follow(arguments: argparse.Namespace, names: LogNames, limits: Limits) -> Callable[[Line], None]:
    goal, source = target(arguments), dsn(arguments)
    channels = [check_channel(channel) for channel in dict.fromkeys(arguments.channels)]
    form = _as_json if arguments.json else _as_text

    def run(line: Line) -> None:
        log = ConnectionLog(Output(sys.stderr), goal.description)
        refusals: list[Exception] = []

        def event(event: ListenerEvent, error: Exception | None) -> None:
            first = not log.connected.is_set()
            if first and isinstance(error, ConnectionFailed) and ends_attempt(error.sqlstate):
                refusals.append(error)
                broadcaster.close(0)
            else:
                log.event(event, error)

        broadcaster = Broadcaster(
            source, backend=goal.backend, event_callback=event, max_reconnect_interval=LONGEST_PAUSE
        )
        with (
            limits.running(),
            _without_errors("pglisten.eventlog"),
            broadcaster,
            EventLog(names.name, broadcaster, schema=names.schema) as entries,
        ):
            try:
                follower = entries.follow(*channels, after=arguments.after)
            except ListenerClosed as error:
                raise refusals[0] if refusals else error from None
            log.connected.wait()
            log.write(f"following {names} after position {follower.position}")
            limits.begun = True
            for entry in follower:
                if entry is None:
                    log.write("gap: entries were removed before they were read")
                elif limits.print(partial(line, form(entry))):
                    return

    return run


@contextmanager
def _without_errors(name: str) -> Generator[None, None, None]:
    """Keep the logger *name* from errors: they end the command, which prints them."""
    logger = logging.getLogger(name)

    def is_less(record: logging.LogRecord) -> bool:
        return record.levelno < logging.ERROR

    logger.addFilter(is_less)
    try:
        yield
    finally:
        logger.removeFilter(is_less)


def _as_text(entry: Entry) -> str:
    created = local_time(entry.created, "milliseconds")
    return f"{created}\t{entry.position}\t{visible(entry.channel)}\t{visible(entry.payload)}"


def _as_json(entry: Entry) -> str:
    position, channel, payload, created = entry
    return json.dumps(
        {"position": position, "channel": channel, "payload": payload, "created": created.isoformat()}
    )


_ACTIONS = {
    "create": _create,
    "append": _append,
    "trim": _trim,
    "status": _status,
    "drop": _drop,
}
