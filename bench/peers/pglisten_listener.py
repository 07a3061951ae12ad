"""pglisten: a `Listener`, and a greenlet that iterates over it."""

from __future__ import annotations

import argparse
import gc
import time
from collections import deque
from itertools import islice
from typing import Any

import gevent
from gevent.event import Event

import pglisten
from bench.peers.busy import Ticker, busy_greenlets
from bench.peers.script import CHANNEL, LONG, Burst, arrived, channels_of, main, resident, say


def connecting(options: argparse.Namespace, **more: Any) -> pglisten.Listener:
    return pglisten.Listener(options.uri, backend=options.backend, **more)


def listening(options: argparse.Namespace, **more: Any) -> pglisten.Listener:
    made = connecting(options, **more)
    made.listen(CHANNEL)
    say(ready=True)
    return made


class Back:
    """An event callback that notes when the connection is back."""

    quick = {"min_reconnect_interval": 0.01, "jitter": 0.0}  # noqa: RUF012 - the listener's options

    def __init__(self) -> None:
        self.at: list[int] = []
        """Nanoseconds of the machine's clock."""
        self.came = Event()

    def __call__(self, event: pglisten.ListenerEvent, error: Exception | None) -> None:
        if event is pglisten.ListenerEvent.RECONNECTED:
            self.at.append(time.time_ns())
            self.came.set()


def burst(options: argparse.Namespace) -> None:
    """Receive a burst: ``--style each`` counts in a loop, ``take`` is a loop in C without a counter."""
    with listening(options) as listener:
        ticker = Ticker() if options.ticker else None
        items = iter(listener)
        next(items)
        watch, consumed = Burst(), 1
        if options.style == "take":
            deque(islice(items, options.count - 2), maxlen=0)
            item, consumed = next(items), options.count
        else:
            for item in items:  # noqa: B007 - the last is looked at below
                consumed += 1
                if consumed == options.count:
                    break
        assert item is not None
        watch.done(consumed, item.payload)
        if ticker is not None:
            say(**ticker.lap())


def latency(options: argparse.Namespace) -> None:
    with busy_greenlets(options.busy), listening(options) as listener:
        for item in islice(listener, options.count):
            assert item is not None
            arrived(item.payload)


def losses(options: argparse.Namespace) -> None:
    back = Back()
    ticker = Ticker() if options.ticker else None
    with listening(options, event_callback=back, **back.quick):
        if ticker is not None:
            ticker.lap()  # connecting is not what is measured
        for _ in range(options.count):
            back.came.wait()
            back.came.clear()
            say(back=back.at[-1])
        if ticker is not None:
            say(**ticker.lap())


def channels(options: argparse.Namespace) -> None:
    """Listen to many channels from as many greenlets, and again after a loss."""
    back = Back()
    # The ticker runs before the first greenlet starts: starting 10,000 of them blocks the hub too.
    ticker = Ticker() if options.ticker else None
    with connecting(options, event_callback=back, **back.quick) as listener:
        listener.wait_connected()
        if ticker is not None:
            ticker.lap()
        say(ready=True)
        wall, cpu = time.perf_counter(), time.process_time()
        waiting = [gevent.spawn(listener.listen, channel) for channel in channels_of(options)]
        gevent.joinall(waiting, raise_error=True)
        used = time.process_time()
        say(seconds=time.perf_counter() - wall, cpu=used - cpu, **(ticker.lap() if ticker else {}))
        back.came.wait()
        say(back=back.at[-1], cpu=time.process_time() - used, **(ticker.lap() if ticker else {}))


def memory(options: argparse.Namespace) -> None:
    """Listen to many channels one after the other; report how much memory that adds."""
    with listening(options) as listener:
        gc.collect()
        before = resident()
        for channel in channels_of(options):
            listener.listen(channel)
        gc.collect()
        say(bytes=resident() - before)


def idle(options: argparse.Namespace) -> None:
    """Run many listeners, each with a consumer, without any notification."""
    more = {"heartbeat_interval": None} if options.mute else {}
    listeners = [connecting(options, **more) for _ in range(options.count)]
    for listener in listeners:
        listener.listen(CHANNEL)
        gevent.spawn(listener.get)
    gevent.idle()
    say(ready=True)
    gevent.sleep(LONG)


if __name__ == "__main__":
    main(burst=burst, latency=latency, losses=losses, channels=channels, memory=memory, idle=idle)
