"""The server that the demo uses: a private one that can be restarted, or the user's own."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import gevent

from .._conninfo import ConnInfo
from .._conninfo.dsn import keyword_string
from ..connection import ListenerConnection
from ..testing.postgres.server import PrivatePostgres
from .screen import Look, Screen
from .shop import Shop

__all__ = ["CHANNELS", "Stage", "open_stage"]

CHANNELS = ("orders", "chat", "alerts")
"""The page's labels of the channels; the shop sends to the first."""

PACE = 0.3
"""Seconds for an order to reach the listeners before the server stops: a stopping server may not send it."""

DOWNTIME = 2.0
"""Seconds that the server stays away: long enough to be seen, and for a few attempts that fail."""

SETTLING = 1.5
"""Seconds after which every listener is back; the pause between two attempts is half a second at most."""

AWAY = "sent while the listeners may still be away"

END_SESSIONS = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"


@dataclass(frozen=True)
class Stage:
    """A server, the shop that sends orders on it, and the way to break the listeners' connections."""

    dsn: str
    """For the listeners."""
    server: str
    """The page's name of the server."""
    channels: Mapping[str, str]
    """The page's label of each channel, and its name."""
    shop: Shop
    restarts: bool
    """Whether `interrupt` restarts the server."""
    interrupt: Callable[[], None]
    """Breaks the listeners' connections, and returns when they can be back."""


def open_stage(screen: Screen, dsn: str | None, backend: str) -> AbstractContextManager[Stage]:
    """Use the server at *dsn*, or a private one (None) that is removed afterwards.

    Entering raises `PrivatePostgresError` if no private server can be started, and `Error` if *dsn*
    leads nowhere.
    """
    return _private_stage(screen, backend) if dsn is None else _given_stage(screen, dsn, backend)


@contextmanager
def _private_stage(screen: Screen, backend: str) -> Generator[Stage, None, None]:
    # The variables are meant for another server; PGOPTIONS or PGSSLMODE would break connections to this one.
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
            # At this moment the listeners have not reconnected yet.
            shop.send(AWAY)
            shop.send(AWAY)
            screen.tell("server", "is up again", Look.GOOD)
            gevent.sleep(SETTLING)
            shop.send("the two orders before this one may be missing: no listener was back")

        yield Stage(server.dsn(), f"{server.version}, private", channels, shop, True, restart)


@contextmanager
def _given_stage(screen: Screen, dsn: str, backend: str) -> Generator[Stage, None, None]:
    # Other programs may use the server, including a second demo.
    prefix = f"pglisten_demo_{secrets.token_hex(4)}"
    channels = {name: f"{prefix}_{name}" for name in CHANNELS}
    conninfo = ConnInfo.parse(dsn, os.environ)
    shop = Shop(screen, dsn, backend, channels[CHANNELS[0]])
    # A server that cannot be reached is an error here, and not later in the workers' log.
    ListenerConnection(dsn, backend=backend).close()

    def end_sessions() -> None:
        screen.tell("server", "is told to end the listeners' sessions", Look.BAD)
        shop.send("just before the connections are cut")
        shop.execute(f"{END_SESSIONS} WHERE application_name = '{prefix}'")
        gevent.sleep(SETTLING)
        shop.send("and it goes on")

    listeners_dsn = keyword_string({**conninfo.values(), "application_name": prefix})
    yield Stage(listeners_dsn, conninfo.description, channels, shop, False, end_sessions)
