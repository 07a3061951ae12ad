"""Where the demo takes place: a private server that can be restarted, or somebody's own."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import gevent

from ..._conninfo import ConnInfo
from ...connection import ListenerConnection
from ...errors import Error
from ...testing.postgres.server import PrivatePostgres, keyword_string
from ..screen import Look, Screen

__all__ = ["CHANNELS", "Stage", "given_stage", "private_stage"]

CHANNELS = ("orders", "chat", "alerts")
"""What the page calls the channels; the first is the shop's."""

PACE = 0.3
"""Seconds for an order to reach the pages before the server goes: once it shuts down it may not send it."""

DOWNTIME = 2.0
"""Seconds that the server stays away: enough for a person to see it, and for a few attempts that fail."""

SETTLING = 1.5
"""Seconds after which every worker is back; the pause between two attempts is half a second at most."""

STEP_TIMEOUT = 10.0
"""Seconds for one statement; milliseconds are usual."""

END_SESSIONS = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"


@dataclass(frozen=True)
class Stage:
    """Where it takes place."""

    dsn: str
    """For the workers."""
    server: str
    """What the page calls it."""
    channels: Mapping[str, str]
    """What the page calls each, and its name."""
    restarts: bool
    """Whether `interrupt` restarts the server."""
    interrupt: Callable[[], None]
    """Breaks the workers' connections, and returns when they can be back."""


@contextmanager
def private_stage(screen: Screen, backend: str) -> Generator[Stage, None, None]:
    """Start a private server, and remove it afterwards. `PrivatePostgresError` if there is none to be had."""
    # They are about another server; PGOPTIONS or PGSSLMODE would break the connections to this one.
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGLISTEN_")]:
        del os.environ[name]
    screen.title("Starting a private PostgreSQL ...")
    with PrivatePostgres() as server:
        screen.restart_clock()
        screen.tell("server", f"PostgreSQL {server.version} is up (programs from {server.origin})", Look.GOOD)
        channels = {name: name for name in CHANNELS}
        shop = Shop(screen, server.dsn(), backend, channels[CHANNELS[0]])

        def restart() -> None:
            shop.send("just before the database goes down")
            gevent.sleep(PACE)
            screen.tell("server", f"shuts down, to come back in {DOWNTIME:g} seconds", Look.BAD)
            server.stop()
            gevent.sleep(DOWNTIME)
            server.start()
            # In these first moments the workers have not found out yet.
            shop.send("the database is back, and maybe nobody listens yet")
            shop.send("nor now")
            screen.tell("server", "is up again", Look.GOOD)
            gevent.sleep(SETTLING)
            shop.send("is one before this one missing? It was sent while nobody listened")

        yield Stage(server.dsn(), f"{server.version}, private", channels, True, restart)


@contextmanager
def given_stage(screen: Screen, dsn: str, backend: str) -> Generator[Stage, None, None]:
    """Use the server at *dsn*, on channels of the demo's own. Raises `Error` if that leads nowhere."""
    # Others may use the server, for this demo too.
    prefix = f"pglisten_demo_{secrets.token_hex(4)}"
    channels = {name: f"{prefix}_{name}" for name in CHANNELS}
    conninfo = ConnInfo.parse(dsn, os.environ)
    shop = Shop(screen, dsn, backend, channels[CHANNELS[0]])
    # Fails here, where somebody reads it, and not later in the workers.
    ListenerConnection(dsn, backend=backend).close()

    def end_sessions() -> None:
        screen.tell("server", "is told to end the workers' sessions", Look.BAD)
        shop.send("just before the connections are cut")
        shop.execute(f"{END_SESSIONS} WHERE application_name = '{prefix}'")
        gevent.sleep(SETTLING)
        shop.send("and it goes on")

    workers_dsn = keyword_string({**conninfo.values(), "application_name": prefix})
    yield Stage(workers_dsn, conninfo.description, channels, False, end_sessions)


class Shop:
    """Somebody who sends orders, over a connection for each; what cannot be sent is told, and no more."""

    def __init__(self, screen: Screen, dsn: str, backend: str, channel: str) -> None:
        """Connect to nothing yet."""
        self._screen = screen
        self._dsn = dsn
        self._backend = backend
        self._channel = channel
        self._number = 1

    def send(self, remark: str) -> None:
        """Send the next order."""
        text = f"Order {self._number}: {remark}."
        self._number += 1
        payload = json.dumps({"name": "the shop", "text": text})
        self._do(lambda connection: connection.notify(self._channel, payload, STEP_TIMEOUT))

    def execute(self, sql: str) -> None:
        """Run one statement."""
        self._do(lambda connection: connection.execute(sql, STEP_TIMEOUT))

    def _do(self, step: Callable[[ListenerConnection], None]) -> None:
        try:
            with ListenerConnection(self._dsn, backend=self._backend) as connection:
                step(connection)
        except Error as error:
            self._screen.tell("server", f"did not do as it was told: {error}", Look.BAD)
