"""The demo itself: who does what when.

Somebody sends numbered orders, a listener for each backend receives them, and half-way the connections
break. On a private server, by a restart; on somebody's own, by ending the listeners' sessions.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import NamedTuple

import gevent

from ..connection import ListenerConnection
from ..testing.postgres.server import PrivatePostgres
from .screen import Look, Screen
from .watcher import Watcher, order

__all__ = ["perform"]

PACE = 0.5
"""Seconds between two orders: what each line says can be read before the next ones come."""

DOWNTIME = 1.0
"""Seconds that the server stays away: enough for a few attempts that fail."""

MISSED = 2
"""Orders sent as soon as the server is back, before the listeners have found out."""

LAST_ORDER_TIMEOUT = 2.0
"""Seconds for the last order to arrive; milliseconds are usual."""

SUMMARY_TIMEOUT = 1.0
"""Seconds for the last lines to be taken after Ctrl-C: by then nobody may read them."""


def perform(screen: Screen, names: Sequence[str], *, dsn: str | None, seconds: float) -> None:
    """Show the backends called *names* for *seconds*, on the server at *dsn* or on a private one.

    Ends early, and in order, when its greenlet is killed. Raises `PrivatePostgresError` if there is no
    private server to be had, and `Error` if *dsn* leads nowhere.
    """
    watchers: list[Watcher] = []
    farewell = ""
    try:
        with (
            _private_stage(screen) if dsn is None else _given_stage(screen, dsn) as stage,
            ExitStack() as stack,
        ):
            sender = stack.enter_context(Sender(screen, stage, names[0]))
            for name in names:
                watchers.append(Watcher(screen, stage.dsn, name, stage.channel))
                stack.callback(watchers[-1].close)
            _act(seconds, stage, sender, watchers)
    except gevent.GreenletExit:
        farewell = "Interrupted. "
    if dsn is None:
        farewell += "The private server and its files are gone. "
    gevent.with_timeout(SUMMARY_TIMEOUT, _summarize, screen, farewell, watchers, timeout_value=None)


def _summarize(screen: Screen, farewell: str, watchers: Sequence[Watcher]) -> None:
    screen.title(f"{farewell}What became of the orders:")
    for watcher in watchers:
        screen.lines("", watcher.name, watcher.summary())


def _act(seconds: float, stage: Stage, sender: Sender, watchers: Sequence[Watcher]) -> None:
    begin = time.monotonic()
    while time.monotonic() < begin + seconds / 2:
        sender.send()
        gevent.sleep(PACE)
    stage.interrupt(sender, watchers)
    for _ in range(MISSED):
        sender.send()
    while time.monotonic() < begin + seconds - PACE:
        gevent.sleep(PACE)
        sender.send()
    gevent.sleep(PACE)
    for watcher in watchers:
        watcher.last_order = sender.next_order
    sender.send()
    for watcher in watchers:
        watcher.wait_for_last(LAST_ORDER_TIMEOUT)


class Stage(NamedTuple):
    """Where it takes place."""

    dsn: str
    channel: str
    interrupt: Callable[[Sender, Sequence[Watcher]], None]
    """Breaks the watchers' connections; leaves the sender with one."""


class Sender:
    """Sends numbered orders, over one connection at a time."""

    def __init__(self, screen: Screen, stage: Stage, backend: str) -> None:
        """Connect."""
        self._screen = screen
        self._channel = stage.channel
        self._connect = partial(ListenerConnection, stage.dsn, backend=backend)
        self._number = 1
        self._connection = self._connect()

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    @property
    def next_order(self) -> str:
        """The payload that will be sent next."""
        return order(self._number)

    def send(self) -> None:
        """Send the next order; return when it is committed."""
        self._screen.tell("sender", f"NOTIFY {self._channel}, '{self.next_order}'", Look.QUIET)
        self._connection.notify(self._channel, self.next_order)
        self._number += 1

    def reconnect(self) -> None:
        """Take another connection."""
        self._connection.close()
        self._connection = self._connect()

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self._connection.execute(sql)


@contextmanager
def _private_stage(screen: Screen) -> Generator[Stage, None, None]:
    # They are about another server; PGOPTIONS or PGSSLMODE would break the connections to this one.
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGLISTEN_")]:
        del os.environ[name]
    screen.title("Starting a private PostgreSQL ...")
    with PrivatePostgres() as server:

        def restart(sender: Sender, watchers: Sequence[Watcher]) -> None:
            del watchers
            screen.tell("server", "shuts down, to come back in a second", Look.BAD)
            server.stop()
            gevent.sleep(DOWNTIME)
            server.start()
            screen.tell("server", "is up again; orders go on before the listeners are back", Look.GOOD)
            sender.reconnect()

        screen.restart_clock()
        screen.tell("server", f"PostgreSQL {server.version} is up (programs from {server.origin})", Look.GOOD)
        yield Stage(server.dsn(), "orders", restart)


@contextmanager
def _given_stage(screen: Screen, dsn: str) -> Generator[Stage, None, None]:
    def end_sessions(sender: Sender, watchers: Sequence[Watcher]) -> None:
        for watcher in watchers:
            pid = watcher.listener.stats().server_pid
            if pid is not None:
                screen.tell("server", f"is told to end the session of {watcher.name}", Look.BAD)
                sender.execute(f"SELECT pg_terminate_backend({pid})")

    # Others may use the server, for this demo too.
    yield Stage(dsn, f"pglisten_demo_{secrets.token_hex(4)}", end_sessions)
