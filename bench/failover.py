"""The time from a promotion to a listener's RECONNECTED.

    python bench/failover.py [--rounds 5]

Starts a private primary and streaming standby (``pip install 'pglisten[demo]'``), kills the primary and
promotes the standby. The promotion has ended when the server accepts LISTEN from another connection, which
retries all the time. The result is how much later the listener's RECONNECTED comes.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from typing import NamedTuple

import gevent
from gevent.event import Event

import pglisten
from pglisten import ListenerEvent
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres


class Result(NamedTuple):
    """Milliseconds from the kill to DISCONNECTED, of the promotion, and from its end to RECONNECTED."""

    noticed: float
    promotion: float
    reconnected: float


def run(backend: str, janitor: JanitorProcess) -> Result:
    moments: dict[ListenerEvent, float] = {}
    failed, back = Event(), Event()

    def note(event: ListenerEvent, error: Exception | None) -> None:
        moments[event] = time.perf_counter()
        if event is ListenerEvent.CONNECTION_ATTEMPT_FAILED:
            failed.set()
        elif event is ListenerEvent.RECONNECTED:
            back.set()

    with PrivatePostgres(janitor=janitor) as primary, primary.standby() as standby:
        listener = pglisten.Listener(
            primary.dsn(host="127.0.0.1,127.0.0.1", port=f"{primary.port},{standby.port}"),
            backend=backend,
            min_reconnect_interval=0.01,
            max_reconnect_interval=0.01,
            jitter=0.0,
            event_callback=note,
        )
        with listener, pglisten.ListenerConnection(standby.dsn(), backend=backend) as control:
            listener.listen("failover", timeout=20)
            killed = time.perf_counter()
            primary.kill()
            failed.wait(20)
            started = time.perf_counter()
            control.execute("SELECT pg_promote(false)", timeout=20)
            while not takes_listen(control):
                pass
            promoted = time.perf_counter()
            back.wait(20)
            control.notify("failover")
            assert listener.get(timeout=20) is None
            assert listener.get(timeout=20) is not None
    return Result(
        (moments[ListenerEvent.DISCONNECTED] - killed) * 1e3,
        (promoted - started) * 1e3,
        (moments[ListenerEvent.RECONNECTED] - promoted) * 1e3,
    )


def takes_listen(connection: pglisten.ListenerConnection) -> bool:
    try:
        connection.execute("LISTEN probe", timeout=20)
    except pglisten.ServerError:
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    logging.disable()  # an attempt every 10 ms
    results: dict[str, list[Result]] = {name: [] for name in pglisten.available_backends()}
    with JanitorProcess() as janitor:
        for _ in range(options.rounds):
            for backend, runs in results.items():
                runs.append(run(backend, janitor))
                gevent.idle()
    print(f"{'medians, ms':12}{'noticed':>10}{'promotion':>12}{'RECONNECTED':>14}")
    for backend, runs in results.items():
        noticed, promotion, reconnected = (
            statistics.median(each[column] for each in runs) for column in range(3)
        )
        print(f"{backend:12}{noticed:10.1f}{promotion:12.1f}{reconnected:+14.1f}")
    print("RECONNECTED is counted from the end of the promotion; an attempt is made every 10 ms.")


if __name__ == "__main__":
    main()
