"""Streams of a broadcaster on a server in memory, read by the parser of the HTML standard."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pglisten import (
    Broadcaster,
    ConfigurationError,
    OperationTimeout,
    ServerError,
    Subscription,
    sse,
)
from pglisten._sse.stream import CHUNK
from pglisten.testing import FakeBackend, FakeServer
from support.programs.event_source import Event, Parser, parse
from support.timeouts import TIMEOUT

HEARTBEAT = b":\n"


def events(data: bytes) -> list[tuple[str, str]]:
    return [(event.type, event.data) for event in parse(data).events]


def test_a_stream_begins_with_the_reconnect_delay_and_an_id(subscription: Subscription) -> None:
    parser = parse(next(sse.stream(subscription, retry=2.5)))
    assert parser.retry == 2500
    assert re.fullmatch("[0-9a-f]{8}-1", parser.last_event_id)
    assert parser.events == []


@pytest.mark.parametrize(("retry", "milliseconds"), [(0.0001, 1), (7, 7000), ((7, 7), 7000), (None, None)])
def test_the_reconnect_delay_is_in_milliseconds_or_left_to_the_browser(
    subscription: Subscription, retry: Any, milliseconds: int | None
) -> None:
    assert parse(next(sse.stream(subscription, retry=retry))).retry == milliseconds


def test_a_notification_is_an_event_named_after_its_channel_with_an_id_of_its_own(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    bodies = [sse.stream(broadcaster.subscribe("orders", "stock")) for _ in range(2)]
    received: list[Event] = []
    for body in bodies:
        next(body)
    server.notify("orders", "42")
    server.notify("stock", "ä\u2028ö")
    for body in bodies:
        received += parse(next(body)).events
    assert [(event.type, event.data) for event in received] == [("orders", "42"), ("stock", "ä\u2028ö")] * 2
    assert len({event.last_event_id for event in received}) == 2


channels = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=15)
payloads = st.text(st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\r\n: "))


@given(channel=channels, payload=payloads, cuts=st.lists(st.integers(0, 200)))
@example(channel=" orders", payload=" leading space", cuts=[])
@example(channel="a\r\nb: c", payload="data: 1\r\n\r\nid: 2\n\nevent: x\r:comment\r\r\n", cuts=[30, 31, 32])
@example(channel="\n", payload="", cuts=[])
@example(channel=":", payload=":", cuts=[])
@example(channel="id", payload="\ufeff", cuts=[])
def test_whatever_is_sent_arrives_as_one_event_with_its_line_breaks_made_equal(
    channel: str, payload: str, cuts: list[int]
) -> None:
    name = re.sub("[\r\n]", "", channel)
    assume(name not in {sse.GAP, "open", "error"})
    server = FakeServer()
    with Broadcaster("", backend=FakeBackend(server)) as broadcaster:
        body = sse.stream(broadcaster.subscribe(channel))
        first = next(body)
        server.notify(channel, payload)
        data = first + next(body)
        body.close()
    parser, start = Parser(), 0
    for end in [*sorted(cuts), len(data)]:
        parser.feed(data[start:end])
        start = max(start, end)
    text = payload.replace("\r\n", "\n").replace("\r", "\n")
    assert [(event.type, event.data) for event in parser.events] == [(name or "message", text)]
    assert parser.comments == []
    assert re.fullmatch("[0-9a-f]{8}-[0-9]+", parser.last_event_id)


def test_queued_events_go_out_together_in_chunks_of_bounded_size(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    body = sse.stream(broadcaster.subscribe("orders"))
    next(body)
    for number in range(100):
        server.notify("orders", f"{number} {'x' * 2000}")
    broadcaster.notify("orders", "last")
    gevent.idle()
    chunks: list[bytes] = []
    while b"last" not in b"".join(chunks[-1:]):
        chunks.append(next(body))
    assert [data.split()[0] for _, data in events(b"".join(chunks))] == [*map(str, range(100)), "last"]
    assert len(chunks) == 4
    assert all(len(chunk) < CHUNK + 8100 for chunk in chunks)


def test_silence_is_broken_by_comments(server: FakeServer, subscription: Subscription) -> None:
    body = sse.stream(subscription, heartbeat=0.01)
    next(body)
    assert [next(body), next(body)] == [HEARTBEAT, HEARTBEAT]
    server.notify("orders", "after")
    assert events(next(body)) == [("orders", "after")]
    assert next(body) == HEARTBEAT
    assert events(HEARTBEAT * 2) == []


def test_a_loss_is_a_gap_event_in_its_place(server: FakeServer, subscription: Subscription) -> None:
    body = sse.stream(subscription)
    next(body)
    server.notify("orders", "before")
    assert events(next(body)) == [("orders", "before")]
    server.cut()
    assert events(next(body)) == [("gap", "")]
    server.notify("orders", "after")
    assert events(next(body)) == [("orders", "after")]


def test_a_client_that_reconnects_gets_a_gap_event_first(subscription: Subscription) -> None:
    parser = parse(next(sse.stream(subscription, last_event_id="")))
    assert [(event.type, event.data) for event in parser.events] == [("gap", "reconnected")]
    assert 1000 <= (parser.retry or 0) <= 5000


def test_an_overflow_ends_the_stream_with_a_gap_event(server: FakeServer, broadcaster: Broadcaster) -> None:
    body = sse.stream(broadcaster.subscribe("orders", queue_size=2, overflow="close"))
    other = broadcaster.subscribe("orders")
    next(body)
    for number in range(3):
        server.notify("orders", str(number))
    assert [(item := other.get(TIMEOUT)) and item.payload for _ in range(3)] == ["0", "1", "2"]
    assert events(b"".join(body)) == [("orders", "0"), ("orders", "1"), ("gap", "")]


def test_a_gap_event_replaces_the_notifications_that_an_overflow_dropped(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    body = sse.stream(broadcaster.subscribe("orders", queue_size=2))
    other = broadcaster.subscribe("orders")
    next(body)
    for number in range(3):
        server.notify("orders", str(number))
    assert [(item := other.get(TIMEOUT)) and item.payload for _ in range(3)] == ["0", "1", "2"]
    assert events(next(body))[0] == ("gap", "")


def test_a_channel_refused_after_a_loss_ends_the_stream_with_a_gap_event(
    server: FakeServer, broadcaster: Broadcaster, unsubscribed: Callable[[], bool]
) -> None:
    body = sse.stream(broadcaster.subscribe("orders"))
    next(body)
    server.refuse_listen["orders"] = ServerError("no such character", sqlstate="22P05")
    server.cut()
    assert events(b"".join(body)) == [("gap", "")]
    assert unsubscribed()


def test_the_broadcasters_end_ends_the_stream_once_what_is_queued_is_sent(
    server: FakeServer, broadcaster: Broadcaster, subscription: Subscription
) -> None:
    body = sse.stream(subscription)
    next(body)
    server.notify("orders", "queued")
    gevent.idle()
    broadcaster.close()
    assert events(b"".join(body)) == [("orders", "queued")]


def test_event_names_and_data_are_what_the_options_say(server: FakeServer, broadcaster: Broadcaster) -> None:
    def heard(**options: Any) -> list[tuple[str, str]]:
        body = sse.stream(broadcaster.subscribe("orders"), **options)
        next(body)
        server.notify("orders", "42")
        return events(next(body))

    assert heard(event="news") == [("news", "42")]
    assert heard(event="") == [("message", "42")]
    assert heard(event=lambda n: f"{n.channel}\n{n.payload}") == [("orders42", "42")]
    assert heard(event=lambda n: "") == [("message", "42")]
    assert heard(encode=lambda n: f"<b>{n.payload}</b>\n<i>") == [("orders", "<b>42</b>\n<i>")]
    assert heard(encode=lambda n: "") == [("orders", "")]


def test_gap_events_have_the_name_that_the_option_says(broadcaster: Broadcaster) -> None:
    body = sse.stream(broadcaster.subscribe(sse.GAP), gap="missed", last_event_id="x")
    assert events(next(body)) == [("missed", "reconnected")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heartbeat": 0}, "heartbeat is seconds above 0"),
        ({"heartbeat": None}, "heartbeat is seconds above 0"),
        ({"heartbeat": float("inf")}, "heartbeat is seconds above 0"),
        ({"retry": -1}, "retry is seconds above 0, or None"),
        ({"retry": "3"}, "retry is seconds above 0, or None"),
        ({"retry": (3, 1)}, "retry is \\(low, high\\)"),
        ({"retry": (0, 1)}, "retry is seconds above 0"),
        ({"retry": (1, 2, 3)}, "retry is seconds, or \\(low, high\\)"),
        ({"gap_spread": -1}, "gap_spread is seconds above 0"),
        ({"gap_spread": False}, "gap_spread is seconds above 0"),
        ({"max_age": 0}, "max_age is seconds above 0, or None"),
        ({"event": "a\nb"}, "event is a name without line breaks"),
        ({"event": 7}, "event is a name without line breaks"),
        ({"event": "gap"}, "event and gap are both 'gap'"),
        ({"encode": "json"}, "encode is a function"),
        ({"gap": "a\rb"}, "gap is a name without line breaks"),
        ({"gap": ""}, "gap is the name of an event"),
        ({"gap": None}, "gap is a name without line breaks"),
        ({"event": "open"}, "event is 'open', the name of a browser's own events"),
        ({"gap": "error"}, "gap is 'error', the name of a browser's own events"),
        ({"send_timeout": 0}, "send_timeout is seconds above 0"),
        ({"gap": "orders"}, "channel 'orders' has the name of gap events"),
        ({"last_event_id": 7}, "last_event_id is a header's text"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(
    subscription: Subscription, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        sse.stream(subscription, **options)
    option = message.partition(" is ")[0]
    assert caught.value.option == (option if option in options else None)


def test_only_a_subscription_is_accepted(broadcaster: Broadcaster) -> None:
    with pytest.raises(
        ConfigurationError, match="a Broadcaster's subscription or an EventLog's follower, not <Broadcaster"
    ):
        sse.stream(broadcaster)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"encode": lambda n: {"x": 1}}, TypeError, "encode must return .* str, not dict"),
        ({"event": lambda n: None}, TypeError, "event must return .* str, not NoneType"),
        ({"event": lambda n: "g\nap"}, ConfigurationError, "would have the name of gap events"),
        ({"event": lambda n: "op\ren"}, ConfigurationError, "would have the name of a browser's own events"),
        ({"encode": lambda n: 1 / 0}, ZeroDivisionError, "division"),
    ],
)
def test_an_option_that_fails_later_ends_the_stream_with_its_error(
    server: FakeServer,
    broadcaster: Broadcaster,
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    unsubscribed: Callable[[], bool],
) -> None:
    body = sse.stream(broadcaster.subscribe("orders"), **options)
    next(body)
    server.notify("orders", "secret")
    with pytest.raises(error, match=message) as caught:
        next(body)
    assert "secret" not in str(caught.value)
    assert list(body) == []
    assert unsubscribed()


def test_a_timeout_inside_on_gap_is_not_mistaken_for_silence(broadcaster: Broadcaster) -> None:
    def on_gap() -> None:
        raise OperationTimeout("the database is slow")

    body = sse.stream(broadcaster.subscribe("orders", on_gap=on_gap))
    next(body)
    with pytest.raises(OperationTimeout, match="the database is slow"):
        next(body)
