"""pglisten: a `Listener`, and a greenlet that iterates over it."""

from __future__ import annotations

import argparse
from collections import deque
from itertools import islice

import pglisten
from bench.peers.busy import Ticker, busy_greenlets
from bench.peers.script import CHANNEL, Burst, arrived, main, say


def listening(options: argparse.Namespace) -> pglisten.Listener:
    made = pglisten.Listener(options.uri, backend=options.backend)
    made.listen(CHANNEL)
    say(ready=True)
    return made


def burst(options: argparse.Namespace) -> None:
    """Take a burst: ``--style each`` has a loop with a counter in it, ``take`` is a loop in C with none."""
    with listening(options) as listener:
        ticker = Ticker() if options.ticker else None
        items = iter(listener)
        next(items)
        watch, taken = Burst(), 1
        if options.style == "take":
            deque(islice(items, options.count - 2), maxlen=0)
            item, taken = next(items), options.count
        else:
            for item in items:  # noqa: B007 - the last is looked at below
                taken += 1
                if taken == options.count:
                    break
        assert item is not None
        watch.done(taken, item.payload)
        if ticker is not None:
            say(**ticker.stop())


def latency(options: argparse.Namespace) -> None:
    with busy_greenlets(options.busy), listening(options) as listener:
        for item in islice(listener, options.count):
            assert item is not None
            arrived(item.payload)


if __name__ == "__main__":
    main(burst=burst, latency=latency)
