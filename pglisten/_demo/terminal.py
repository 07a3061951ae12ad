"""The demo in the terminal: one line for each thing that a page would show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import gevent

from .common import OUTAGE
from .screen import Screen
from .stage import Stage, open_stage
from .watcher import Watcher

__all__ = ["perform"]

PACE = 0.5
"""Seconds between two orders, so that each line can be read before the next one comes."""

LAST_ORDER_TIMEOUT = 2.0
"""Seconds for the last order to arrive; milliseconds are usual."""

SUMMARY_TIMEOUT = 0.3
"""Seconds for the last lines to be written after Ctrl-C: the reader may have gone."""


def perform(screen: Screen, names: Sequence[str], *, dsn: str | None, log: bool, seconds: float) -> None:
    """Show the backends called *names* for *seconds*, on the server at *dsn* or on a private one.

    The outage begins after a third of *seconds*. The show ends early, and in order, when its greenlet
    is killed. Raises `PrivatePostgresError` if no private server can be started, and `Error` if *dsn*
    leads nowhere.
    """
    watchers: list[Watcher] = []
    farewell = ""
    try:
        with open_stage(screen, dsn, names[0], log=log) as stage, ExitStack() as stack:
            for name in names:
                watchers.append(Watcher(screen, stage.door or stage.dsn, name, stage.names))
                stack.callback(watchers[-1].close)
            _play(seconds, stage, watchers)
    except gevent.GreenletExit:
        farewell = "Interrupted. "
    if dsn is None:
        farewell += "The private server and its files are gone. "
    gevent.with_timeout(SUMMARY_TIMEOUT, _summarize, screen, farewell, watchers, timeout_value=None)


def _play(seconds: float, stage: Stage, watchers: Sequence[Watcher]) -> None:
    begin = time.monotonic()
    while time.monotonic() < begin + seconds / 3:
        stage.shop.send()
        gevent.sleep(PACE)
    stage.cut(min(OUTAGE, seconds / 3))
    while time.monotonic() < begin + seconds - PACE:
        gevent.sleep(PACE)
        stage.shop.send()
    gevent.sleep(PACE)
    for watcher in watchers:
        watcher.last_order = stage.shop.next_number
    stage.shop.send()
    for watcher in watchers:
        watcher.wait_for_last(LAST_ORDER_TIMEOUT)


def _summarize(screen: Screen, farewell: str, watchers: Sequence[Watcher]) -> None:
    screen.title(f"{farewell}What became of the orders, by notification alone and by the event log:")
    for watcher in watchers:
        screen.lines("", watcher.name, watcher.summary())
