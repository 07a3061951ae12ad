"""The WSGI application, checked against PEP 3333: requests that get no stream, and their responses."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote, urlencode
from wsgiref.util import setup_testing_defaults

import gevent
import pytest

from pglisten import Broadcaster, ServerError, sse
from pglisten._sse.registry import streams
from pglisten.testing import FakeServer
from support.programs.event_source import parse
from support.programs.wsgi import WsgiClient, refused
from support.timeouts import TIMEOUT


def allow_all(environ: dict[str, Any], channel: str) -> bool:
    return True


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_other_methods_are_not_allowed(broadcaster: Broadcaster, client: WsgiClient, method: str) -> None:
    response = client.ask(sse.app(broadcaster, allow_all), method=method)
    assert response.status == "405 Method Not Allowed"
    assert response.headers["Allow"] == "GET, HEAD"
    assert refused(response) == "A stream needs the method GET."


def test_head_gets_the_response_of_get_and_no_subscription(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    response = client.ask(sse.app(broadcaster, allow_all), method="HEAD")
    assert (response.status, response.headers["Content-Type"]) == ("200 OK", sse.HEADERS[0][1])
    assert response.text() == ""
    response = client.ask(sse.app(broadcaster), method="HEAD")
    assert response.status == "403 Forbidden"
    assert response.text() == ""
    assert not server.queries


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Name a channel: ?channel=NAME. Repeat it for more channels."),
        ("chanel=orders", "Name a channel: ?channel=NAME. Repeat it for more channels."),
        ("channel=", "A channel name has at least one character."),
        ("channel=a&channel=b%00", "Channel name 'b\\x00' holds a NUL or a lone surrogate,"),
        (
            urlencode({"channel": "ä" * 32}),
            "has 64 bytes of UTF-8 and PostgreSQL takes 63 at most: shorten it.",
        ),
        ("channel=%ff", "The query is not percent-encoded UTF-8."),
        ("channel=\xff", "The query is not percent-encoded UTF-8."),
        ("&".join(f"channel={n}" for n in range(33)), "33 channels are too many: the limit is 32."),
        ("channel=orders&channel=gap", "Channel 'gap' has the name of gap events."),
        ("channel=orders&channel=g%0Aap", "Channel 'g\\nap' has the name of gap events."),
        ("channel=open&channel=orders", "Channel 'open' has the name of a browser's own events."),
        ("channel=error", "Channel 'error' has the name of a browser's own events."),
        ("channel=%0Derr%0Aor", "Channel '\\rerr\\nor' has the name of a browser's own events."),
    ],
)
def test_a_request_for_impossible_channels_is_a_bad_request(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient, query: str, text: str
) -> None:
    response = client.ask(sse.app(broadcaster, allow_all), query)
    assert response.status == "400 Bad Request"
    assert text in refused(response)
    assert not server.queries


def test_channel_names_are_utf8_with_or_without_percent_encoding(
    broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(broadcaster, allow_all)
    client.ask(app, f"channel={quote('Größe & Maß')}")
    client.ask(app, "channel=" + "größe".encode().decode("latin-1"))
    client.ask(app, "&".join(f"channel={n}" for n in range(32)))
    assert broadcaster.channels == {"Größe & Maß", "größe", *map(str, range(32))}


def test_without_authorize_every_channel_is_refused(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    response = client.ask(sse.app(broadcaster))
    assert response.status == "403 Forbidden"
    assert refused(response) == "Channel 'orders' is not allowed."
    assert not server.queries


def test_one_channel_that_is_not_allowed_refuses_the_request(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    asked: list[tuple[str, str]] = []

    def authorize(environ: dict[str, Any], channel: str) -> bool:
        asked.append((environ["HTTP_COOKIE"], channel))
        return channel != "secret"

    response = client.ask(
        sse.app(broadcaster, authorize), "channel=orders&channel=secret&channel=x", HTTP_COOKIE="me"
    )
    assert response.status == "403 Forbidden"
    assert asked == [("me", "orders"), ("me", "secret")]
    assert not server.queries


@pytest.mark.parametrize("answer", [1, "yes", None, object()])
def test_an_answer_that_is_not_a_boolean_opens_no_stream(
    server: FakeServer,
    broadcaster: Broadcaster,
    client: WsgiClient,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
) -> None:
    response = client.ask(sse.app(broadcaster, lambda environ, channel: answer))
    assert response.status == "500 Internal Server Error"
    assert refused(response) == "The server could not check whether this is allowed."
    assert "authorize must return True or False" in caplog.text
    assert not server.queries


def test_an_error_in_authorize_is_logged_and_opens_no_stream(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.ask(sse.app(broadcaster, lambda environ, channel: bool(1 / 0)), "channel=a%0Ab")
    assert response.status == "500 Internal Server Error"
    assert "division" not in refused(response)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("pglisten.sse", logging.ERROR)
    assert record.getMessage() == "authorize failed for channel 'a\\nb'"
    assert record.exc_info is not None
    assert not server.queries


def test_a_stream_beyond_the_limit_gets_503(broadcaster: Broadcaster, client: WsgiClient) -> None:
    app = sse.app(broadcaster, allow_all, max_streams=2, retry=1.2)
    first, _ = client.ask(app), client.ask(app)
    response = client.ask(app)
    assert response.status == "503 Service Unavailable"
    assert response.headers["Retry-After"] == "2"
    assert refused(response) == "2 streams are open: that is the limit."
    first.body.close()
    assert client.ask(app).status == "200 OK"


def test_requests_that_wait_for_their_channels_count_as_streams(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(broadcaster, allow_all, max_streams=1)
    broadcaster.wait_connected(TIMEOUT)
    server.freeze()
    waiting = gevent.spawn(client.ask, app)
    gevent.idle()
    assert client.ask(app).status == "503 Service Unavailable"
    server.thaw()
    assert waiting.get(timeout=TIMEOUT).status == "200 OK"


def test_a_database_that_does_not_answer_in_time_gives_503(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient, caplog: pytest.LogCaptureFixture
) -> None:
    app = sse.app(broadcaster, allow_all, timeout=0.01, retry=None, max_streams=1)
    broadcaster.wait_connected(TIMEOUT)
    server.freeze()
    for _ in range(2):
        response = client.ask(app)
        assert response.status == "503 Service Unavailable"
        assert response.headers["Retry-After"] == "3"
        assert refused(response) == "The database is not available."
    (said,) = caplog.messages  # one line for the outage
    assert said.startswith("event streams are refused: LISTEN 'orders': not done within 0.0")
    stats = broadcaster.stats()
    assert (stats.subscriptions, stats.subscriptions_waiting) == (0, 0)
    server.thaw()


def test_a_channel_that_the_database_refuses_gives_503(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    server.refuse_listen["orders"] = ServerError("out of memory", sqlstate="53200")
    response = client.ask(sse.app(broadcaster, allow_all))
    assert response.status == "503 Service Unavailable"
    stats = broadcaster.stats()
    assert (stats.subscriptions, stats.subscriptions_waiting) == (0, 0)


def test_a_closed_broadcaster_gives_503(broadcaster: Broadcaster, client: WsgiClient) -> None:
    broadcaster.close()
    response = client.ask(sse.app(broadcaster, allow_all))
    assert response.status == "503 Service Unavailable"
    assert refused(response) == "This server is shutting down."


def test_a_stopping_worker_makes_new_and_waiting_clients_reconnect(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(broadcaster, allow_all, retry=2)
    broadcaster.wait_connected(TIMEOUT)
    server.freeze()
    waiting = gevent.spawn(client.ask, app)
    gevent.idle()
    try:
        streams.end()
        server.thaw()
        for response in (waiting.get(timeout=TIMEOUT), client.ask(app)):
            assert response.status == "200 OK"
            text = response.text()
            parser = parse(text.encode())
            assert (parser.retry, parser.events) == (2000, [])
            assert parser.last_event_id
        assert client.ask(app, method="HEAD").text() == ""
        assert broadcaster.stats().subscriptions == 0
    finally:
        streams.reset()


def test_a_request_that_is_killed_while_it_waits_leaves_no_subscription(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(broadcaster, allow_all, max_streams=1)
    broadcaster.wait_connected(TIMEOUT)
    server.freeze()
    waiting = gevent.spawn(client.ask, app)
    gevent.idle()
    waiting.kill(timeout=TIMEOUT)
    server.thaw()
    assert broadcaster.stats().subscriptions == 0
    assert client.ask(app).status == "200 OK"


def test_a_response_that_cannot_be_started_leaves_no_subscription(broadcaster: Broadcaster) -> None:
    def start_response(*arguments: object) -> Any:
        raise AssertionError("Response headers already set!")

    environ: dict[str, Any] = {"QUERY_STRING": "channel=orders"}
    setup_testing_defaults(environ)
    with pytest.raises(AssertionError, match="already set"):
        sse.app(broadcaster, allow_all)(environ, start_response)
    assert broadcaster.stats().subscriptions == 0
