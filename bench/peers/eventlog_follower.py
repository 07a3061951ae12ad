"""A follower of an event log of pglisten."""

from __future__ import annotations

import argparse
import time
from contextlib import closing

import gevent
import greenlet
import psycopg2

from bench.peers.busy import Ticker
from bench.peers.eventlog_psycopg2 import PAGE
from bench.peers.script import arrived, main, say
from pglisten import Broadcaster, EventLog

FOLLOWERS = 1000
PORTION = 10
"""Followers that begin in one turn of the event loop."""

ENTRIES = 100
"""Entries that each of them has missed."""


def entry_latency(options: argparse.Namespace) -> None:
    with Broadcaster(options.uri, backend=options.backend) as broadcaster:
        follower = EventLog("events", broadcaster).follow()
        say(ready=True)
        for _ in range(options.count):
            entry = follower.get()
            assert entry is not None
            arrived(entry.payload)


def catch_up(options: argparse.Namespace) -> None:
    with Broadcaster(options.uri, backend=options.backend) as broadcaster:
        log = EventLog("events", broadcaster)
        log.follow()
        ticker = Ticker()
        gevent.sleep(0.01)
        ticker.lap()
        began = time.perf_counter()
        for count, _ in enumerate(log.follow(after=0, queue_size=PAGE), 1):
            if count == options.count:
                break
        say(seconds=time.perf_counter() - began, **ticker.lap())


class Longest:
    """The longest time, in seconds of CPU, that one greenlet runs without a switch."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._hub = gevent.get_hub()
        self._since = time.thread_time()

    def __call__(self, event: str, switched: tuple[object, object]) -> None:
        now = time.thread_time()
        # The hub runs callbacks of others for 5 ms before it looks at timers: that is gevent's.
        if switched[0] is not self._hub:
            self.seconds = max(self.seconds, now - self._since)
        self._since = now


def resume(options: argparse.Namespace) -> None:
    """Let many followers begin at once, a little behind, inside the window."""
    with (
        closing(psycopg2.connect(options.uri)) as beside,
        Broadcaster(options.uri, backend=options.backend) as broadcaster,
    ):
        beside.autocommit = True
        log = EventLog("events", broadcaster)
        head, ticker = log.follow().position, Ticker()

        def follow() -> None:
            follower = log.follow(after=head - ENTRIES)
            for _ in range(ENTRIES):
                follower.get()

        def last_query() -> object:
            with beside.cursor() as cursor:
                cursor.execute(
                    "SELECT query_start FROM pg_stat_activity WHERE pid = %s",
                    (broadcaster.stats().server_pid,),
                )
                return cursor.fetchone()

        following = [gevent.Greenlet(follow) for _ in range(FOLLOWERS)]
        gevent.sleep(0.01)
        before, longest = last_query(), Longest()
        ticker.lap()
        greenlet.settrace(longest)
        began = time.perf_counter()
        for number, each in enumerate(following, 1):
            each.start()
            # A thousand that start in one turn would be what is measured.
            if not number % PORTION:
                gevent.sleep(0)
        gevent.joinall(following, raise_error=True)
        seconds, stalls = time.perf_counter() - began, ticker.lap()
        greenlet.settrace(None)
        say(seconds=seconds, asked=int(last_query() != before), hold=longest.seconds, **stalls)


if __name__ == "__main__":
    main(**{"entry-latency": entry_latency, "catch-up": catch_up, "resume": resume})
