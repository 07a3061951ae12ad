"""The demo on a web page: a database, and a web server whose workers listen."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import gevent
import gevent.socket

from ..common import OUTAGE
from ..screen import Look, Screen
from ..stage import Stage, open_stage
from .address import is_loopback, listen, url
from .control import Request
from .server import WebServer
from .settings import Settings

__all__ = ["Place", "perform"]

SUMMARY_TIMEOUT = 0.3
"""Seconds for the last line to be written after Ctrl-C: the reader may have gone."""

WARNING = (
    "Warning: every user who can reach this machine over the network can use the page, send any text, and "
    "break the connections. Do not leave it running."
)

FEWEST_WORKERS = 2
"""So that a notification comes from another worker than the page's."""


@dataclass(frozen=True)
class Place:
    """The address of the page, and the number of workers."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    workers: int | None = None
    """``None``: one for each backend, and at least `FEWEST_WORKERS`."""


def perform(
    screen: Screen,
    names: Sequence[str],
    *,
    dsn: str | None,
    log: bool,
    place: Place,
    seconds: float | None,
) -> None:
    """Serve the page, with workers on the backends called *names*, for *seconds* (``None``: until killed).

    Ends in order when its greenlet is killed. Raises `PrivatePostgresError` if no private server can be
    started, and `Error` if *dsn* leads nowhere, the address is taken, or the web server fails.
    """
    try:
        with ExitStack() as stack:
            # First, so that a port in use is reported at once.
            listener = stack.enter_context(listen(place.host, place.port))
            stage = stack.enter_context(open_stage(screen, dsn, names[0], log=log))
            workers = place.workers or max(FEWEST_WORKERS, len(names))
            server = stack.enter_context(_serve(stage, listener, names, workers))
            address = url(listener)
            if not is_loopback(listener):
                screen.title(WARNING)
            # Only gunicorn keeps the socket: after its end, connections must be refused.
            listener.close()
            gevent.with_timeout(seconds, _attend, screen, stage, server, address, timeout_value=None)
    except gevent.GreenletExit:
        pass
    farewell = "The workers are gone"
    farewell += "." if dsn is not None else ", and so are the private server and its files."
    gevent.with_timeout(SUMMARY_TIMEOUT, screen.title, farewell, timeout_value=None)


def _serve(stage: Stage, listener: gevent.socket.socket, names: Sequence[str], workers: int) -> WebServer:
    settings = Settings(
        dsn=stage.dsn,
        sender=stage.sender,
        door=stage.door is not None,
        server=stage.server,
        backends=tuple(names),
        names=stage.names,
        restarts=stage.restart is not None,
        run=secrets.token_hex(4),
        token=secrets.token_urlsafe(16),
        any_host=not is_loopback(listener),
        workers=workers,
    )
    return WebServer(settings, listener)


def _attend(screen: Screen, stage: Stage, server: WebServer, address: str) -> None:
    """Carry out the requests of the workers."""
    while not server.ready:
        server.request()
    screen.title(f"Open {address} in a browser, cut the workers off, and send. Ctrl-C ends it.")
    while True:
        request = server.request()
        if request is Request.RELOAD and server.ready:
            screen.tell("workers", "are replaced", Look.GOOD)
            # Those that are there then take no new streams.
            stage.tell(reload=True)
            server.reload()
        elif request in (Request.CUT, Request.RESTART):
            if request is Request.RESTART and stage.restart is not None:
                stage.restart()
            else:
                stage.cut(OUTAGE)
            # One outage serves every user who pressed a button meanwhile.
            server.discard(Request.CUT, Request.RESTART)
