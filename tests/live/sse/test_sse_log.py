"""Streams of an event log: a client that was away resumes, from wherever it says it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import psycopg2
import pytest

from pglisten import EventLog, sse
from pglisten.eventlog import broadcaster_of
from pglisten.testing import Proxy
from support.eventlogs import append, fill, trim
from support.fixtures.eventlogs import WINDOW
from support.programs.event_source import Parser, parse
from support.programs.wsgi import Response, WsgiClient, anyone
from support.servers.server import Server
from support.timeouts import TIMEOUT

Open = Callable[..., Response]


@pytest.fixture
def client() -> Iterator[WsgiClient]:
    made = WsgiClient()
    yield made
    made.close()


@pytest.fixture
def open_stream(event_log: EventLog, client: WsgiClient) -> Open:
    """Return a function that opens a stream of the channel ``c0``."""
    app = sse.app(event_log, anyone, timeout=TIMEOUT)
    return lambda query="channel=c0", **environ: client.ask(app, query, **environ)


def read(body: Any, count: int, parser: Parser | None = None) -> Parser:
    """Read events until there are *count*."""
    parser = parser or Parser()
    iterator = iter(body)
    with gevent.Timeout(TIMEOUT):
        while parser.retry is None or len(parser.events) < count:
            parser.feed(next(iterator))
    assert len(parser.events) == count
    return parser


def told(parser: Parser) -> list[tuple[str, str, str]]:
    return [(event.type, event.data, event.last_event_id) for event in parser.events]


def test_a_client_that_was_away_gets_what_it_has_missed_and_nothing_twice(
    server: Server, event_log: EventLog, open_stream: Open
) -> None:
    first = open_stream()
    parser = read(first.body, 0)
    assert parser.last_event_id == "0"  # Lost before its first event, it would resume there.
    append(server, event_log, "c0", "1", "2")
    assert told(read(first.body, 2, parser)) == [("c0", "1", "1"), ("c0", "2", "2")]
    first.body.close()
    append(server, event_log, "c0", "3")
    append(server, event_log, "c1", "other")
    append(server, event_log, "c0", "5")
    # The browser repeats the URL of its first request.
    again = open_stream("channel=c0&after=1", HTTP_LAST_EVENT_ID=parser.last_event_id)
    assert told(read(again.body, 2)) == [("c0", "3", "3"), ("c0", "5", "5")]


def test_a_page_that_was_rendered_at_a_position_follows_from_there(
    server: Server, event_log: EventLog, open_stream: Open
) -> None:
    append(server, event_log, "c0", "rendered")
    position = event_log.position(timeout=TIMEOUT)
    append(server, event_log, "c0", "since then")
    assert told(read(open_stream(f"channel=c0&after={position}").body, 1)) == [("c0", "since then", "2")]


@pytest.mark.parametrize("came_back", [True, False])
@pytest.mark.parametrize("text", ["", "-1", "a1b2c3d4-7", "9" * 30, str(2**63 - 1), "1000000"])
def test_from_an_id_that_is_not_of_this_log_comes_a_gap_without_id_and_then_the_newest(
    server: Server, event_log: EventLog, open_stream: Open, text: str, came_back: bool
) -> None:
    fill(server, event_log, 10)
    response = open_stream(HTTP_LAST_EVENT_ID=text) if came_back else open_stream(f"channel=c0&after={text}")
    assert response.status == "200 OK"
    parser = read(response.body, 1)
    append(server, event_log, "c0", "new")
    assert told(read(response.body, 2, parser)) == [("gap", "reconnected", ""), ("c0", "new", "11")]


@pytest.mark.parametrize("position", [0, 5])
def test_from_an_id_that_trim_has_passed_comes_a_gap_and_then_the_newest(
    server: Server, event_log: EventLog, open_stream: Open, position: int
) -> None:
    fill(server, event_log, 10)
    trim(server, event_log, 7)
    response = open_stream(HTTP_LAST_EVENT_ID=str(position))
    assert response.status == "200 OK"
    parser = read(response.body, 1)
    append(server, event_log, "c0", "new")
    # The gap leaves the id as it was: lost now, the client would come back to a gap.
    assert told(read(response.body, 2, parser)) == [("gap", "", str(position)), ("c0", "new", "11")]


def test_a_lost_connection_is_no_gap(server: Server, event_log: EventLog, open_stream: Open) -> None:
    bodies = [open_stream().body for _ in range(20)]
    parsers = [read(body, 0) for body in bodies]
    append(server, event_log, "c0", "before")
    server.terminate(broadcaster_of(event_log).stats().server_pid or 0)
    append(server, event_log, "c0", "meanwhile")
    for body, parser in zip(bodies, parsers, strict=True):
        assert told(read(body, 2, parser)) == [("c0", "before", "1"), ("c0", "meanwhile", "2")]


def test_an_entry_is_encoded_once_for_all_streams_of_the_same_form(
    server: Server, event_log: EventLog, client: WsgiClient
) -> None:
    calls: list[str] = []

    def encode(entry: Any) -> str:
        calls.append(entry.payload)
        return str(entry.payload)

    app = sse.app(event_log, anyone, encode=encode, timeout=TIMEOUT)
    bodies = [client.ask(app, "channel=c0").body for _ in range(3)]
    begun = [(body, read(body, 0)) for body in bodies]
    append(server, event_log, "c0", "1", "2")
    assert [told(read(body, 2, parser)) for body, parser in begun] == [
        [("c0", "1", "1"), ("c0", "2", "2")]
    ] * 3
    assert calls == ["1", "2"]


def test_streams_that_come_back_within_the_window_cost_no_query_and_others_one_each(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy], client: WsgiClient
) -> None:
    log, between = log_behind_proxy
    app = sse.app(log, anyone, timeout=TIMEOUT, queue_size=WINDOW)
    newest = 3 * WINDOW
    read(client.ask(app, "channel=c0").body, 0)
    fill(server, log, newest)
    read(client.ask(app, f"channel=c0&after={newest}").body, 0)
    before = between.queries
    for _ in range(50):
        response = client.ask(app, "channel=c0", HTTP_LAST_EVENT_ID=str(newest - 3))
        assert told(read(response.body, 3))[-1] == ("c0", str(newest), str(newest))
    assert between.queries == before
    behind = [client.ask(app, "channel=c0", HTTP_LAST_EVENT_ID=str(newest - WINDOW - 99)) for _ in range(5)]
    reading = [gevent.spawn(read, response.body, WINDOW + 99) for response in behind]
    gevent.joinall(reading, timeout=TIMEOUT, raise_error=True)
    assert between.queries - before <= len(behind) + 1  # the first one is prepared


def test_a_log_that_is_gone_ends_the_stream_quietly_and_refuses_new_ones(
    server: Server, event_log: EventLog, open_stream: Open
) -> None:
    body = open_stream().body
    read(body, 0)
    reading = gevent.spawn(b"".join, body)
    server.query(f"DROP TABLE {event_log._names.state} CASCADE")
    server.notify(event_log._names.bell)
    assert parse(reading.get(timeout=TIMEOUT)).events == []
    assert open_stream().status == "503 Service Unavailable"


def test_end_streams_is_part_of_a_transaction(
    server: Server, event_log: EventLog, client: WsgiClient
) -> None:
    app = sse.app(event_log, anyone, owner=lambda environ: "ann", timeout=TIMEOUT)
    body = client.ask(app, "channel=c0").body
    parser = read(body, 0)
    with contextlib.closing(psycopg2.connect(server.dsn())) as connection:
        cursor = connection.cursor()
        sse.end_streams("ann", cursor=cursor)
        connection.rollback()
        append(server, event_log, "c0", "still allowed")
        read(body, 1, parser)
        sse.end_streams("ann", cursor=cursor)
        connection.commit()
    with gevent.Timeout(TIMEOUT):
        assert b"".join(body) == b""
