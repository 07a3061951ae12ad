"""Two hundred thousand notifications at once."""

from __future__ import annotations

import subprocess
import sys
import time

import gevent
import pytest

from support.fixtures.listeners import MakeListener
from support.fixtures.servers import Server

COUNT = 200_000
SENDER = """
import sys, pglisten
connection = pglisten.ListenerConnection(sys.argv[1], backend=sys.argv[2])
for start in range(0, int(sys.argv[3]), 10_000):
    numbers = f"generate_series({start}, {start + 9999}) i"
    connection.execute(f"select count(pg_notify('burst', i || repeat('x', 60))) from {numbers}")
connection.close()
"""

HELD_UP_TOO_LONG = 0.1
"""Seconds of this process's own work between two ticks. CPU time, because on a busy machine the wall clock
measures other programs."""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("queue_size", [1, 32, 1024])
def test_a_burst_arrives_complete_and_in_order_and_does_not_hold_up_the_hub(
    make_listener: MakeListener, server: Server, backend_name: str, queue_size: int
) -> None:
    listener = make_listener(queue_size=queue_size)
    listener.listen("burst", timeout=20)
    worst = 0.0

    def tick() -> None:
        nonlocal worst
        last = time.thread_time()
        while True:
            gevent.sleep(0.001)
            now = time.thread_time()
            worst, last = max(worst, now - last), now

    ticker = gevent.spawn(tick)
    sender = subprocess.Popen([sys.executable, "-c", SENDER, server.dsn(), backend_name, str(COUNT)])
    try:
        for number in range(COUNT):
            item = listener.get(timeout=60)
            assert item is not None
            assert item.payload.rstrip("x") == str(number)
    finally:
        ticker.kill()
        assert gevent.get_hub().threadpool.apply(sender.wait) == 0
    print(f"worst hold-up with a queue of {queue_size} on {backend_name}: {worst * 1000:.1f} ms of CPU")
    assert worst < HELD_UP_TOO_LONG
