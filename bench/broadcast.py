"""The cost of a notification per subscriber, the memory of an idle one, and how fast many subscribe.

    python bench/broadcast.py [--subscribers 10000] [--rounds 5]

Starts a private server (``pip install 'pglisten[demo]'``). "queued" is the time until a notification is in
the queue of every subscription, without waiting consumers. "consumed" is the time until as many greenlets,
each waiting in ``get()``, have received it. "floor" is the time that gevent itself needs to switch to as
many waiting greenlets and back. All run in one process, in turn.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable

import gevent
from gevent.hub import Waiter

import pglisten
from pglisten import Broadcaster, Subscription
from pglisten.testing import Proxy
from pglisten.testing.postgres.server import PrivatePostgres


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        gevent.sleep(0.0002)


def bytes_each(broadcaster: Broadcaster, count: int) -> tuple[float, list[Subscription]]:
    """Subscribe *count* times to one channel; return the bytes of each subscription."""
    broadcaster.subscribe("x").close()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    made = [broadcaster.subscribe("x") for _ in range(count)]
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / count, made


def queued(broadcaster: Broadcaster, made: list[Subscription]) -> float:
    """Return the seconds until one notification stands in every queue."""
    queues = [subscription._queue for subscription in made]
    started = time.perf_counter()
    broadcaster.notify("x", "queued")
    until(lambda: bool(queues[-1].items))
    took = time.perf_counter() - started
    for subscription in made:
        subscription.get(0)
    return took


def consumed(broadcaster: Broadcaster, made: list[Subscription], rounds: int) -> list[float]:
    """Return the seconds until each of as many waiting greenlets has received one notification."""
    count = 0

    def consume(subscription: Subscription) -> None:
        nonlocal count
        for _ in subscription:
            count += 1

    consumers = [gevent.spawn(consume, subscription) for subscription in made]
    gevent.idle()
    results: list[float] = []
    for number in range(rounds):
        goal = (number + 1) * len(made)
        started = time.perf_counter()
        broadcaster.notify("x", str(number))
        until(lambda goal=goal: count >= goal)  # type: ignore[misc]
        results.append(time.perf_counter() - started)
    gevent.killall(consumers)
    return results


def floor(count: int, rounds: int) -> list[float]:
    """Return the seconds that gevent needs to switch to *count* waiting greenlets until they wait again."""
    waiters: list[Waiter[None]] = []

    def wait() -> None:
        while True:
            waiters.append(Waiter())
            waiters[-1].get()

    waiting = [gevent.spawn(wait) for _ in range(count)]
    gevent.idle()
    results: list[float] = []
    for _ in range(rounds):
        due, waiters[:] = list(waiters), []
        run_callback = gevent.get_hub().loop.run_callback
        started = time.perf_counter()
        for greenlet in due:
            run_callback(greenlet.switch, None)
        until(lambda: len(waiters) >= count)
        results.append(time.perf_counter() - started)
    gevent.killall(waiting)
    return results


def distinct(broadcaster: Broadcaster, count: int, between: Proxy) -> tuple[float, int]:
    """Subscribe *count* greenlets to a channel each, concurrently; return seconds and round trips."""
    broadcaster.wait_connected(20)
    before, started = between.queries, time.perf_counter()
    made = [gevent.spawn(broadcaster.subscribe, f"channel {number}") for number in range(count)]
    gevent.joinall(made, raise_error=True)
    return time.perf_counter() - started, between.queries - before


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--subscribers", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    count, rounds = options.subscribers, options.rounds
    with PrivatePostgres() as postgres:
        print(f"{count} subscriptions, medians of {rounds}, microseconds for each")
        print(
            f"{'':10}{'queued':>8}{'consumed':>9}{'floor':>8}{'ratio':>8}{'bytes':>8}"
            f"{'distinct':>12}{'round trips':>14}"
        )
        for backend in pglisten.available_backends():
            with Broadcaster(postgres.dsn(), backend=backend) as broadcaster:
                weight, made = bytes_each(broadcaster, count)
                put = statistics.median(queued(broadcaster, made) for _ in range(rounds)) / count * 1e6
                # Interleaved, so that each ratio is of one round.
                pairs = [(consumed(broadcaster, made, 1)[0], floor(count, 1)[0]) for _ in range(rounds)]
            with (
                Proxy(("127.0.0.1", postgres.port)) as between,
                Broadcaster(postgres.dsn(port=between.port), backend=backend) as broadcaster,
            ):
                seconds, trips = distinct(broadcaster, count, between)
            took, least = (
                statistics.median(pair[column] for pair in pairs) / count * 1e6 for column in (0, 1)
            )
            ratio = statistics.median(a / b for a, b in pairs)
            print(
                f"{backend:10}{put:8.2f}{took:8.2f}{least:8.2f}{ratio:8.1f}{weight:8.0f}"
                f"{seconds:10.2f} s{trips:14}"
            )


if __name__ == "__main__":
    main()
