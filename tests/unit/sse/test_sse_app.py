"""The WSGI application, checked against PEP 3333: streams, their headers, and its options."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from pglisten import Broadcaster, ConfigurationError, sse
from pglisten.testing import FakeServer
from support.programs.event_source import parse
from support.programs.wsgi import WsgiClient
from support.timeouts import TIMEOUT


def allow_all(environ: dict[str, Any], channel: str) -> bool:
    return True


def test_a_stream_has_its_headers_and_the_notifications_of_its_channels(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    response = client.ask(sse.app(broadcaster, allow_all), "channel=orders&x=1&channel=stock&channel=orders")
    assert response.status == "200 OK"
    assert response.headers == {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store, no-transform",
        "Content-Encoding": "identity",
        "X-Accel-Buffering": "no",
    }
    body = iter(response.body)
    received = next(body)
    server.notify("stock", "1")
    server.notify("orders", "2")
    received += next(body)
    parser = parse(received)
    assert [(event.type, event.data) for event in parser.events] == [("stock", "1"), ("orders", "2")]
    assert 1000 <= (parser.retry or 0) <= 5000
    response.body.close()
    assert broadcaster.stats().subscriptions == 0


def test_a_stream_that_is_closed_before_it_is_iterated_closes_its_subscription(
    broadcaster: Broadcaster, client: WsgiClient
) -> None:
    response = client.ask(sse.app(broadcaster, allow_all))
    assert broadcaster.stats().subscriptions == 1
    response.body.close()
    assert broadcaster.stats().subscriptions == 0


def test_a_client_that_reconnects_gets_a_gap_event_first(
    broadcaster: Broadcaster, client: WsgiClient
) -> None:
    response = client.ask(sse.app(broadcaster, allow_all, gap="missed"), HTTP_LAST_EVENT_ID="0a-7")
    assert [event.type for event in parse(next(iter(response.body))).events] == ["missed"]


def test_app_takes_the_options_of_stream(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(
        broadcaster, allow_all, heartbeat=0.01, retry=0.5, event="news", encode=lambda n: n.payload.upper()
    )
    body = iter(client.ask(app, "channel=gap").body)
    first = next(body)
    assert next(body) == b":\n"
    server.notify("gap", "x")
    parser = parse(first + next(body))
    assert parser.retry == 500
    assert [(event.type, event.data) for event in parser.events] == [("news", "X")]


ORIGIN = "https://shop.example:8443"


@pytest.mark.parametrize(
    ("options", "origin", "headers"),
    [
        ({}, ORIGIN, {}),
        ({"cors_origin": "*"}, ORIGIN, {"Access-Control-Allow-Origin": "*"}),
        ({"cors_origin": ORIGIN}, ORIGIN, {"Vary": "Origin", "Access-Control-Allow-Origin": ORIGIN}),
        ({"cors_origin": ORIGIN}, "https://shop.example", {"Vary": "Origin"}),
        ({"cors_origin": ORIGIN}, None, {"Vary": "Origin"}),
        (
            {"cors_origin": ORIGIN, "cors_credentials": True},
            ORIGIN,
            {
                "Vary": "Origin",
                "Access-Control-Allow-Origin": ORIGIN,
                "Access-Control-Allow-Credentials": "true",
            },
        ),
        ({"cors_origin": ORIGIN, "cors_credentials": True}, "null", {"Vary": "Origin"}),
    ],
)
def test_pages_of_an_allowed_origin_read_streams_and_refusals(
    broadcaster: Broadcaster,
    client: WsgiClient,
    options: dict[str, Any],
    origin: str | None,
    headers: dict[str, str],
) -> None:
    app = sse.app(broadcaster, allow_all, **options)
    environ = {} if origin is None else {"HTTP_ORIGIN": origin}
    for query in ("channel=orders", ""):
        response = client.ask(app, query, **environ)
        assert {name: value for name, value in response.headers.items() if name[0] in "AV"} == headers


async def coroutine(environ: dict[str, Any], channel: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"authorize": "admin"}, "authorize is a function"),
        ({"authorize": coroutine}, "authorize is a function"),
        ({"max_channels": 0}, "max_channels is a number from 1 up"),
        ({"max_streams": True}, "max_streams is a number from 1 up"),
        ({"queue_size": 0}, "queue_size is a number"),
        ({"timeout": 0}, "timeout is seconds above 0"),
        ({"timeout": None}, "timeout is seconds above 0"),
        ({"heartbeat": -1}, "heartbeat is seconds above 0"),
        ({"gap": "a\nb"}, "gap is a name without line breaks"),
        ({"cors_origin": "https://shop.example/"}, "cors_origin is '\\*' or one origin"),
        ({"cors_origin": "shop.example"}, "cors_origin is '\\*' or one origin"),
        ({"cors_origin": "null"}, "cors_origin is '\\*' or one origin"),
        ({"cors_origin": "https://a.example\r\nX: y"}, "cors_origin is '\\*' or one origin"),
        ({"cors_origin": ["https://a.example"]}, "cors_origin is '\\*' or one origin"),
        ({"cors_origin": "*", "cors_credentials": True}, "cors_credentials needs one exact origin"),
        ({"cors_credentials": True}, "cors_credentials needs one exact origin"),
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(
    broadcaster: Broadcaster, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        sse.app(broadcaster, **options)
    option = message.partition(" is ")[0]
    assert caught.value.option == (option if option in options else None)


def test_only_a_broadcaster_is_accepted() -> None:
    with pytest.raises(
        ConfigurationError, match="streams need a Broadcaster or an EventLog, not 'postgresql:'"
    ):
        sse.app("postgresql:")  # type: ignore[arg-type]


def test_a_kill_during_authorize_is_not_an_error(broadcaster: Broadcaster, client: WsgiClient) -> None:
    never = Event()
    asking = gevent.spawn(client.ask, sse.app(broadcaster, lambda environ, channel: never.wait()))
    gevent.idle()
    asking.kill(timeout=TIMEOUT)
    assert isinstance(asking.value, gevent.GreenletExit)
