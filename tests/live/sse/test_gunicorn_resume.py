"""Streams of a log under gunicorn: whatever ends them, all come back, and no entry is lost or comes twice.

``PGLISTEN_TEST_STREAMS=2000 pytest tests/live/sse/test_gunicorn_resume.py -m "" -k psycopg2- -s`` measures so
many, with the default delays, and prints how long they were away.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import gevent
import pytest

from pglisten.testing import Proxy
from support.fixtures.gunicorn import Gunicorn, StartGunicorn
from support.fixtures.proxy import MakeProxy
from support.programs.returning import ReturningSource
from support.servers.server import Server

MEASURED = int(os.environ.get("PGLISTEN_TEST_STREAMS", "0"))
STREAMS = MEASURED or 200
LONG = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(600 if MEASURED else 120)]

PAUSE = 0.5 if MEASURED else 0.1
"""Seconds between two entries: this process reads all streams, and has to keep up."""

QUICKLY = {} if MEASURED else {"RETRY_LOW": "0.2", "RETRY_HIGH": "1"}


@pytest.fixture
def between(server: Server, proxy: MakeProxy) -> Proxy:
    """Return the proxy through which the workers connect: it counts their queries."""
    return proxy(server)


class Writer:
    """Appends numbers until it is stopped."""

    def __init__(self, server: Server) -> None:
        self.count = 0
        self._server = server
        self._greenlet = gevent.spawn(self._run)

    def append(self) -> str:
        self.count += 1
        self._server.query(
            "INSERT INTO streams.streams (channel, payload) VALUES ('orders', %s)", str(self.count)
        )
        return str(self.count)

    def _run(self) -> None:
        while True:
            self.append()
            gevent.sleep(PAUSE)

    def stop(self) -> None:
        self._greenlet.kill()


@contextlib.contextmanager
def opened(gunicorn: Gunicorn, count: int) -> Iterator[list[ReturningSource]]:
    sources = []
    for _ in range(count):
        sources.append(ReturningSource(gunicorn.port, "/log?channel=orders"))
        gevent.sleep(0)
    try:
        gunicorn.wait(lambda: all(source.open for source in sources), LONG)
        yield sources
    finally:
        for source in sources:
            source.close()


def report(what: str, seconds: Sequence[float]) -> None:
    if MEASURED:
        ordered = sorted(seconds)
        p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
        print(f"\n{what}: {len(ordered)}, p50 {p50:.2f} s, p99 {p99:.2f} s, at most {ordered[-1]:.2f} s")


def come_back(
    gunicorn: Gunicorn, sources: list[ReturningSource], least: int, end: Callable[[], object]
) -> int:
    """Call *end* and wait until at least *least* streams have ended, and all are open. Return how many."""
    before = sum(len(source.away) for source in sources)

    def back() -> bool:
        ended = sum(len(source.away) for source in sources) - before
        return ended >= least and all(source.open for source in sources)

    end()
    gunicorn.wait(back, LONG)
    return sum(len(source.away) for source in sources) - before


def all_have(gunicorn: Gunicorn, sources: list[ReturningSource], writer: Writer) -> None:
    """Assert that each stream has had each entry once, in order, and no gap."""
    writer.stop()
    last = writer.append()
    gunicorn.wait(lambda: all(source.events and source.events[-1].data == last for source in sources), LONG)
    expected = [str(number + 1) for number in range(writer.count)]
    for source in sources:
        assert [event.data for event in source.events] == expected
        assert {event.type for event in source.events} == {"orders"}


def test_after_a_reload_and_a_loss_all_have_every_entry_once(
    start_gunicorn: StartGunicorn, server: Server, streams_log: None, between: Proxy, gunicorn_mode: list[str]
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gunicorn = start_gunicorn(
        *("-w", "2", "--worker-connections", "4000", "--backlog", "4096", *gunicorn_mode),
        PGHOST=between.host,
        PGPORT=str(between.port),
        **QUICKLY,
    )
    with opened(gunicorn, STREAMS) as sources:
        writer = Writer(server)
        asked, appended = between.queries, writer.count
        come_back(gunicorn, sources, STREAMS, lambda: gunicorn.process.send_signal(signal.SIGHUP))
        report("HUP, away", [seconds for source in sources for seconds in source.away])
        # Two workers read each entry at most once, and begin; no stream asks for itself.
        assert between.queries - asked <= 2 * (writer.count - appended) + 60

        latest = max(len(source.events) for source in sources)
        cut_at = time.monotonic()
        between.cut()
        moments: dict[int, float] = {}
        gunicorn.wait(lambda: _note(sources, latest + 2, moments, cut_at), LONG)
        report("a loss, until the second entry after it", list(moments.values()))
        all_have(gunicorn, sources, writer)
    assert "Traceback" not in gunicorn.log


def _note(sources: list[ReturningSource], count: int, moments: dict[int, float], since: float) -> bool:
    """Note when each stream has had *count* entries; return whether all have."""
    for number, source in enumerate(sources):
        if number not in moments and len(source.events) >= count:
            moments[number] = time.monotonic() - since
    return len(moments) == len(sources)


def test_after_a_worker_has_served_its_requests_all_have_every_entry_once(
    start_gunicorn: StartGunicorn, server: Server, streams_log: None
) -> None:
    count = MEASURED or 30
    # Of the two worker classes, only gevent counts requests.
    gunicorn = start_gunicorn(
        *("-k", "gevent", "-w", "2", "--worker-connections", "4000", "--backlog", "4096"),
        *("--max-requests", str(count), "--max-requests-jitter", str(count // 4)),
        **QUICKLY,
    )
    with opened(gunicorn, count) as sources:
        writer = Writer(server)
        old = {worker.pid for worker in gunicorn.workers()}

        def ask() -> None:
            while {worker.pid for worker in gunicorn.workers()} >= old:
                gunicorn.get("/")

        come_back(gunicorn, sources, 1, ask)
        report("max_requests, away", [seconds for source in sources for seconds in source.away])
        all_have(gunicorn, sources, writer)
    assert "Traceback" not in gunicorn.log
