"""Event streams under gunicorn: each stream gets all notifications, and none delays a worker's end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import gevent
import psutil
import pytest

from support.fixtures.gunicorn import PROMPTLY, Gunicorn, StartGunicorn
from support.programs.event_source import EventSource
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]

SOON = 3.0
"""Seconds in which all streams end: gunicorn's master and its worker's main loop may sleep for one each."""

ALL_MODES = [
    pytest.param(["-k", kind, *preload], id=f"{kind}{'-preload' if preload else ''}")
    for kind in ("gevent", "gevent_pywsgi")
    for preload in ([], ["--preload"])
]


def _pid(source: EventSource) -> int:
    """Return the process id of the worker that serves *source*, from its last event."""
    return int(source.parser.events[-1].data.split()[0])


def _open_on_each_worker(gunicorn: Gunicorn, server: Server, workers: int, each: int) -> list[EventSource]:
    """Open streams until each worker has at least *each*."""
    sources: list[EventSource] = []
    deadline = time.monotonic() + 20
    counts: dict[int, int] = {}
    while len(counts) < workers or min(counts.values()) < each:
        assert time.monotonic() < deadline, counts
        sources += [gunicorn.open("/events?channel=orders&channel=stock") for _ in range(each)]
        server.notify("orders", "here")
        for source in sources:
            source.wait_data("here")
        counts = {}
        for source in sources:
            counts[_pid(source)] = counts.get(_pid(source), 0) + 1
    return sources


def _all_end_well(sources: list[EventSource], within: float) -> None:
    began = time.monotonic()
    for source in sources:
        source.wait_end()
    assert time.monotonic() - began < within
    assert [source.error for source in sources] == [None] * len(sources)
    assert all(source.complete for source in sources)


def _stops(gunicorn: Gunicorn, sources: list[EventSource], stop: Callable[[], None]) -> None:
    """Call *stop*; all streams end with their last chunk, and their workers end promptly."""
    old = [psutil.Process(pid) for pid in {_pid(source) for source in sources}]
    began = time.monotonic()
    stop()
    _all_end_well(sources, SOON)
    gunicorn.wait_gone(*old)
    assert time.monotonic() - began < PROMPTLY


@pytest.mark.parametrize("options", ALL_MODES)
def test_streams_get_all_notifications_and_end_at_once_on_reload_and_on_stop(
    start_gunicorn: StartGunicorn, server: Server, options: list[str]
) -> None:
    before = server.sessions()
    gunicorn = start_gunicorn("-w", "1", *options)
    sources = [gunicorn.open("/events?channel=orders&channel=stock") for _ in range(50)]
    for channel, payload in [("orders", "1"), ("stock", "2"), ("orders", "3")]:
        server.notify(channel, payload)
    for source in sources:
        source.wait_data("3")
        assert [(event.type, event.data.split()[1]) for event in source.parser.events] == [
            ("orders", "1"),
            ("stock", "2"),
            ("orders", "3"),
        ]
    assert server.sessions() == before + 1

    _stops(gunicorn, sources, lambda: gunicorn.process.send_signal(signal.SIGHUP))
    gunicorn.wait(lambda: server.sessions() == before)

    sources = [gunicorn.open("/events?channel=orders", Last_Event_ID="x-1") for _ in range(10)]
    sources += [gunicorn.open("/by-hand") for _ in range(10)]
    server.notify("orders", "4")
    for source in sources:
        source.wait_data("4")
    assert sources[0].parser.events[0].type == "gap"
    _stops(gunicorn, sources, lambda: gunicorn.process.send_signal(signal.SIGTERM))
    assert gunicorn.process.wait(timeout=10) == 0
    gunicorn.wait(lambda: server.sessions() == before)
    assert "Traceback" not in gunicorn.log
    assert "graceful timeout" not in gunicorn.log


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("whom", ["master", "worker"])
def test_a_signal_to_stop_ends_streams_with_their_last_chunk(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], number: signal.Signals, whom: str
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    # With fewer streams, all could end by chance before the worker does.
    sources = _open_on_each_worker(gunicorn, server, workers=1, each=300)
    pid = gunicorn.master.pid if whom == "master" else _pid(sources[0])
    _stops(gunicorn, sources, lambda: os.kill(pid, number))
    if whom == "worker":
        gunicorn.open("/events?channel=orders")
    assert "Traceback" not in gunicorn.log


def test_the_signal_alone_ends_streams_without_the_check_every_second(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode, STREAMS_WITHOUT_NOTIFY="yes")
    sources = _open_on_each_worker(gunicorn, server, workers=1, each=5)
    _stops(gunicorn, sources, lambda: gunicorn.process.send_signal(signal.SIGTERM))


def test_a_surplus_worker_ends_its_own_streams_and_no_others(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "2", *gunicorn_mode)
    sources = _open_on_each_worker(gunicorn, server, workers=2, each=5)
    oldest = gunicorn.workers()[0]
    ending = [source for source in sources if _pid(source) == oldest.pid]
    going_on = [source for source in sources if source not in ending]
    _stops(gunicorn, ending, lambda: gunicorn.process.send_signal(signal.SIGTTOU))
    server.notify("orders", "after")
    for source in going_on:
        source.wait_data("after")
    gunicorn.process.send_signal(signal.SIGTTIN)
    sources = _open_on_each_worker(gunicorn, server, workers=2, each=5)
    _stops(gunicorn, sources, lambda: gunicorn.process.send_signal(signal.SIGTERM))


def test_a_worker_that_has_served_its_number_of_requests_ends_its_streams(
    start_gunicorn: StartGunicorn, server: Server
) -> None:
    # Of the two worker classes, only gevent counts requests.
    gunicorn = start_gunicorn("-w", "1", "-k", "gevent", "--max-requests", "25")
    sources = _open_on_each_worker(gunicorn, server, workers=1, each=20)
    assert len(sources) == 20

    def ask() -> None:
        for _ in range(5):
            assert gunicorn.get("/")["pid"] == _pid(sources[0])

    _stops(gunicorn, sources, ask)
    gunicorn.open("/events?channel=orders")


def test_a_worker_that_has_lost_its_master_ends_its_streams(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    sources = _open_on_each_worker(gunicorn, server, workers=1, each=300)
    _stops(gunicorn, sources, gunicorn.process.kill)


def test_a_killed_workers_streams_are_cut_off_and_its_successor_serves(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    source = gunicorn.open("/events?channel=orders")
    victim = gunicorn.workers()[0]
    victim.kill()
    source.wait_end()
    assert not source.complete
    gunicorn.wait_gone(victim)
    again = gunicorn.open("/events?channel=orders", Last_Event_ID=source.parser.last_event_id)
    server.notify("orders", "after")
    again.wait_data("after")
    assert [event.type for event in again.parser.events] == ["gap", "orders"]
    assert _pid(again) != victim.pid
    _stops(gunicorn, [again], lambda: gunicorn.process.send_signal(signal.SIGTERM))


def test_other_requests_continue_while_a_worker_stops(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    source = gunicorn.open("/events?channel=orders")
    # What a new connection asks last; after that, each LISTEN is the last query for a while.
    _wait_for_query(server, "pg_listening_channels")
    waiting = gevent.spawn(gunicorn.get, "/waits")
    _wait_for_query(server, "late")
    gunicorn.process.send_signal(signal.SIGTERM)
    _all_end_well([source], SOON)
    assert not waiting.ready()
    server.notify("late", "served")
    assert waiting.get(timeout=10) == "served"
    assert gunicorn.process.wait(timeout=PROMPTLY) == 0


def _wait_for_query(server: Server, text: str) -> None:
    """Wait until the last query of a session has *text* in it."""
    with gevent.Timeout(20):
        while not any(text in query for (query,) in server.query("SELECT query FROM pg_stat_activity")):
            gevent.sleep(0.01)


def test_an_idle_connection_that_had_a_stream_is_closed(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", "--keep-alive", "60", *gunicorn_mode)
    source = gunicorn.open("/events?channel=orders")
    worker = gunicorn.workers()[0]
    began = time.monotonic()
    gunicorn.process.send_signal(signal.SIGHUP)
    _all_end_well([source], SOON)
    gunicorn.wait_gone(worker)
    assert time.monotonic() - began < PROMPTLY


def test_without_the_hooks_a_stream_delays_the_end(start_gunicorn: StartGunicorn, server: Server) -> None:
    gunicorn = start_gunicorn("-w", "1", "-k", "gevent", STREAMS_WITHOUT_HOOKS="yes")
    source = gunicorn.open("/events?channel=orders")
    gunicorn.process.send_signal(signal.SIGHUP)
    with pytest.raises(TimeoutError):
        source.wait_end(timeout=SOON)


@pytest.mark.parametrize("asked", [True, False])
def test_psycopg2_is_made_green_if_the_configuration_says_so(
    start_gunicorn: StartGunicorn, backend_name: str, asked: bool
) -> None:
    variables = {"STREAMS_GREEN": "yes"} if asked else {}
    gunicorn = start_gunicorn("-w", "1", "-k", "gevent", **variables)
    assert gunicorn.get("/green") == ("pglisten_psycopg2._wait" if asked else None)
    gunicorn.open("/events?channel=orders")
