"""The event stream of the demo's page, without gunicorn and on a server in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator

import gevent
import pytest

import pglisten
from pglisten import Broadcaster, ListenerClosed, ListenerEvent
from pglisten._demo.web.cast import Cast
from pglisten._demo.web.pages import QUEUE_SIZE, Page
from pglisten._demo.web.state import StatePublisher
from pglisten._sse.registry import streams
from pglisten.testing import FakeServer
from support.timeouts import TIMEOUT


def open_page(broadcaster: Broadcaster, publisher: StatePublisher, after: int | None = None) -> Page:
    return Page(
        broadcaster,
        None,
        "orders",
        publisher,
        Cast(broadcaster, "backstage"),
        window="w",
        hello={"token": "secret"},
        after=after,
    )


@pytest.fixture
def page(broadcaster: Broadcaster, publisher: StatePublisher) -> Iterator[Page]:
    made = open_page(broadcaster, publisher)
    yield made
    made.close()


def up_to(page: Page, text: str) -> str:
    """Read up to a chunk that has *text* in it; return all that was read."""
    read = ""
    with gevent.Timeout(TIMEOUT):
        for chunk in page:
            read += chunk.decode()
            if text in chunk.decode():
                return read
    pytest.fail(f"it has ended: {read}")


def test_a_page_is_greeted_and_then_told_when_it_hears_everything(
    server: FakeServer, broadcaster: Broadcaster, page: Page
) -> None:
    greeting = next(page).decode()
    assert greeting == 'event: hello\ndata: {"token": "secret"}\n\n'
    up_to(page, '"name": "connected"')
    server.notify("orders", "\n<b>")
    event = up_to(page, "event: heard").partition("event: heard\ndata: ")[2]
    assert json.loads(event) == {"payload": "\n<b>"}


def test_a_page_that_comes_back_begins_with_a_gap(
    broadcaster: Broadcaster, publisher: StatePublisher
) -> None:
    page = open_page(broadcaster, publisher, after=7)
    assert up_to(page, '"name": "connected"').count("event: gap") == 1
    page.close()


def test_a_page_sees_a_loss_in_order(server: FakeServer, page: Page, broadcaster: Broadcaster) -> None:
    up_to(page, '"name": "connected"')
    server.stop()
    up_to(page, '"attempts": 2')
    server.start()
    seen = up_to(page, "event: gap")
    assert seen.index('"name": "back"') < seen.index("event: gap")
    server.notify("orders", "after")
    assert "gap" not in up_to(page, "after")


def test_a_page_that_comes_while_there_is_no_connection_says_how_it_stands(
    server: FakeServer, broadcaster: Broadcaster, publisher: StatePublisher
) -> None:
    server.stop()
    first = open_page(broadcaster, publisher)
    up_to(first, '"name": "connecting", "attempts": 2')
    server.start()
    assert "back" not in up_to(first, '"name": "connected"')
    server.stop()
    up_to(first, '"name": "lost"')
    second = open_page(broadcaster, publisher)
    assert '"name": "connected"' not in up_to(second, '"name": "lost"')
    server.start()
    up_to(second, '"name": "back"')
    first.close()
    second.close()


def test_a_page_that_is_new_is_not_told_of_what_was_before_it(
    server: FakeServer, broadcaster: Broadcaster, publisher: StatePublisher, page: Page
) -> None:
    up_to(page, '"name": "connected"')
    server.cut()
    up_to(page, "event: gap")
    late = open_page(broadcaster, publisher)
    assert '"name": "back"' not in up_to(late, '"name": "connected"')
    late.close()


def test_a_page_that_takes_nothing_costs_the_worker_nothing(
    server: FakeServer, broadcaster: Broadcaster, publisher: StatePublisher, page: Page
) -> None:
    up_to(page, '"name": "connected"')
    for _ in range(2 * QUEUE_SIZE):
        publisher.event(ListenerEvent.CONNECTION_ATTEMPT_FAILED, pglisten.ConnectionFailed("no"))
    with gevent.Timeout(TIMEOUT):
        # What had room is there, and then it ends: the browser comes again.
        assert len(list(page)) <= QUEUE_SIZE
    assert publisher.callbacks == set()
    while broadcaster.stats().subscriptions:
        gevent.sleep(0.001)


def test_a_page_ends_with_its_worker_and_leaves_nothing(
    broadcaster: Broadcaster, publisher: StatePublisher, page: Page
) -> None:
    up_to(page, '"name": "connected"')
    streams.end()
    try:
        with gevent.Timeout(TIMEOUT):
            list(page)
        assert streams.wait_closed(TIMEOUT)
        assert publisher.callbacks == set()
        while broadcaster.stats().subscriptions:
            gevent.sleep(0.001)
    finally:
        streams.reset()


def test_a_page_that_waits_for_the_database_ends_with_its_worker_too(
    server: FakeServer, broadcaster: Broadcaster, publisher: StatePublisher
) -> None:
    server.stop()
    waiting = open_page(broadcaster, publisher)
    up_to(waiting, '"attempts": 1')
    streams.end()
    try:
        late = open_page(broadcaster, publisher)
        with gevent.Timeout(TIMEOUT):
            list(waiting)
            list(late)
    finally:
        streams.reset()
    while broadcaster.stats().subscriptions:
        gevent.sleep(0.001)


def test_a_page_whose_browser_is_gone_gives_back_what_it_has(
    broadcaster: Broadcaster, publisher: StatePublisher, page: Page
) -> None:
    up_to(page, '"name": "connected"')
    assert broadcaster.channels == {"orders"}
    page.close()
    while broadcaster.channels:
        gevent.sleep(0.001)
    assert publisher.callbacks == set()


def test_the_end_of_the_listener_is_no_news(publisher: StatePublisher) -> None:
    before = publisher.state
    publisher.event(ListenerEvent.DISCONNECTED, ListenerClosed("closed"))
    assert publisher.state is before


def test_attempts_are_counted_from_the_loss(publisher: StatePublisher) -> None:
    failed = pglisten.ConnectionFailed("no\nway")
    publisher.event(ListenerEvent.CONNECTION_ATTEMPT_FAILED, failed)
    assert (publisher.state.name, publisher.state.attempts, publisher.state.error) == (
        "connecting",
        1,
        "no way",
    )
    publisher.event(ListenerEvent.CONNECTED, None)
    publisher.event(ListenerEvent.DISCONNECTED, pglisten.ConnectionLost("gone"))
    assert (publisher.state.name, publisher.state.attempts, publisher.state.error) == ("lost", 0, "gone")
    publisher.event(ListenerEvent.CONNECTION_ATTEMPT_FAILED, failed)
    publisher.event(ListenerEvent.RECONNECTED, None)
    assert (publisher.state.name, publisher.state.attempts) == ("back", 1)
