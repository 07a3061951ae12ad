"""The server that the demo uses: a private one that can be restarted, or the user's own."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import gevent

from .._conninfo import ConnInfo
from .._conninfo.dsn import keyword_string
from .._eventlog.names import LogNames
from .._eventlog.schema import drop_sql
from .._sql import notify_statement
from .._text import one_line
from ..connection import ListenerConnection
from ..errors import Error
from ..eventlog import EventLog
from ..testing import Proxy
from ..testing.postgres.server import PrivatePostgres
from .common import OUTAGE, Names
from .door import Door
from .screen import Look, Screen
from .shop import STEP_TIMEOUT, Post, Shop

__all__ = ["Stage", "open_stage"]

PACE = 0.3
"""Seconds for a message to reach the listeners before they are cut off."""

SETTLING = 1.5
"""Seconds after which every listener is back; the pause between two attempts is half a second at most."""

END_SESSIONS = "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"


@dataclass(frozen=True)
class Stage:
    """A server, the shop that sends orders on it, and the ways to break the listeners' connections."""

    dsn: str
    """For the listeners."""
    sender: str
    """For senders: it works during an outage."""
    server: str
    """The page's name of the server."""
    names: Names
    shop: Shop
    door: Door | None
    """What keeps the listeners away, if it is not the line to the server."""
    cut: Callable[[float], None]
    """Keeps the listeners away for some seconds, and returns when they can be back."""
    restart: Callable[[], None] | None
    """Restarts the server (``None``: it is the user's)."""

    def tell(self, **what: object) -> None:
        """Tell the workers what is about to happen; return when they know it."""
        statement = notify_statement(self.names.backstage, json.dumps(what))
        self.shop.execute(statement)
        gevent.sleep(PACE)


def open_stage(
    screen: Screen, dsn: str | None, backend: str, *, log: bool = False
) -> AbstractContextManager[Stage]:
    """Use the server at *dsn*, or a private one (None) that is removed afterwards.

    A private server has an event log. One of the user gets it if *log* is true, and it is dropped at the end.
    Entering raises `PrivatePostgresError` if no private server can be started, and `Error` if *dsn*
    leads nowhere.
    """
    return _private_stage(screen, backend) if dsn is None else _given_stage(screen, dsn, backend, log)


@contextmanager
def _private_stage(screen: Screen, backend: str) -> Generator[Stage, None, None]:
    # The variables are meant for another server; PGOPTIONS or PGSSLMODE would break connections to this one.
    for name in [name for name in os.environ if name.startswith("PG") and not name.startswith("PGLISTEN_")]:
        del os.environ[name]
    screen.title("Starting a private PostgreSQL ...")
    names = Names("orders", "demo_backstage", "demo")
    with PrivatePostgres() as server, Proxy(("127.0.0.1", server.port)) as line:
        screen.restart_clock()
        screen.tell("server", f"PostgreSQL {server.version} is up (programs from {server.origin})", Look.GOOD)
        post = Post(server.dsn(), backend, names.channel, names.log)
        post.execute(EventLog.sql("demo"))
        shop = Shop(screen, post)

        def cut(seconds: float) -> None:
            stage.tell(outage="cut", seconds=seconds)
            _tell_cut(screen, seconds)
            line.refuse()
            line.cut("rst")
            _sell(shop, seconds)
            line.accept()
            _settle(screen)

        def restart() -> None:
            stage.tell(outage="restart", seconds=OUTAGE)
            screen.tell("server", f"shuts down, to come back in {OUTAGE:g} seconds", Look.BAD)
            server.stop()
            gevent.sleep(OUTAGE)
            server.start()
            # At this moment the listeners have not reconnected yet.
            shop.send()
            screen.tell("server", "is up again", Look.GOOD)
            gevent.sleep(SETTLING)

        dsn = server.dsn(port=line.port)
        stage = Stage(
            dsn, server.dsn(), f"{server.version}, private", names, shop, door=None, cut=cut, restart=restart
        )
        yield stage


@contextmanager
def _given_stage(screen: Screen, dsn: str, backend: str, log: bool) -> Generator[Stage, None, None]:
    # Other programs may use the server, including a second demo.
    prefix = f"pglisten_demo_{secrets.token_hex(4)}"
    names = Names(f"{prefix}_orders", f"{prefix}_backstage", prefix if log else None)
    conninfo = ConnInfo.parse(dsn, os.environ)
    post = Post(dsn, backend, names.channel, names.log)
    # A server that cannot be reached is an error here, and not later in the workers' log.
    ListenerConnection(dsn, backend=backend).close()
    shop = Shop(screen, post)
    listeners_dsn = keyword_string({**conninfo.values(), "application_name": prefix})
    door = Door(listeners_dsn)

    def cut(seconds: float) -> None:
        stage.tell(outage="cut", seconds=seconds)
        _tell_cut(screen, seconds)
        door.close(seconds)
        shop.execute(f"{END_SESSIONS} WHERE application_name = '{prefix}'")
        _sell(shop, seconds)
        _settle(screen)

    stage = Stage(listeners_dsn, dsn, conninfo.description, names, shop, door=door, cut=cut, restart=None)
    with _own_log(screen, post, names.log):
        yield stage


@contextmanager
def _own_log(screen: Screen, post: Post, name: str | None) -> Generator[None, None, None]:
    """Have an event log called *name* in the user's database for as long as the demo runs."""
    if name is None:
        screen.title("No event log: the demo changes nothing in your database. --log lets it make one.")
        yield
        return
    post.execute(EventLog.sql(name))
    screen.title(f"Made the event log {name} in your database. It is dropped at the end.")
    try:
        yield
    finally:
        try:
            with gevent.Timeout(STEP_TIMEOUT):
                post.execute(drop_sql(LogNames(name)))
        except (Error, gevent.Timeout) as error:
            screen.title(f"Not dropped ({one_line(error)}): run pglisten log drop {name} --yes")


def _tell_cut(screen: Screen, seconds: float) -> None:
    screen.tell("server", f"the listeners are cut off for {seconds:.2g} seconds; senders are not", Look.BAD)


def _sell(shop: Shop, seconds: float) -> None:
    """Send two orders within *seconds*."""
    for share in (0.3, 0.35):
        gevent.sleep(seconds * share)
        shop.send()
    gevent.sleep(seconds * 0.35)


def _settle(screen: Screen) -> None:
    screen.tell("server", "the listeners may come back", Look.GOOD)
    gevent.sleep(SETTLING)
