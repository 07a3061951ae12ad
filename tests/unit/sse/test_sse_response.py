"""What a view answers in any framework: a stream that begins where the request says, or a refusal."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import flask
import gevent
import pytest

from pglisten import Broadcaster, ConfigurationError, InvalidChannelName, sse
from pglisten._sse.registry import streams
from pglisten.testing import FakeServer
from support.programs.event_source import parse
from support.programs.wsgi import WsgiClient, anyone
from support.timeouts import TIMEOUT


def ask(broadcaster: Broadcaster, *channels: str, **options: Any) -> sse.Response:
    environ = {"REQUEST_METHOD": "GET"} | options.pop("environ", {})
    return sse.response(broadcaster, environ, *(channels or ("orders",)), **options)


def test_a_browser_that_comes_back_gets_a_gap_without_an_argument_for_it(broadcaster: Broadcaster) -> None:
    first = ask(broadcaster)
    parser = parse(next(first.body))
    assert (first.code, first.headers, parser.events) == (200, list(sse.HEADERS), [])
    again = ask(broadcaster, environ={"HTTP_LAST_EVENT_ID": parser.last_event_id})
    assert [event.type for event in parse(next(again.body)).events] == ["gap"]


def test_flask_takes_the_answer_as_it_is_and_closes_the_stream(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient, unsubscribed: Callable[[], bool]
) -> None:
    app = flask.Flask(__name__)

    @app.get("/")
    def events() -> Any:
        return sse.response(broadcaster, flask.request.environ, "orders")

    answered = client.ask(app)
    assert answered.headers == dict(sse.HEADERS)
    body = iter(answered.body)
    received = next(body)
    server.notify("orders", "42")
    assert [event.data for event in parse(received + next(body)).events] == ["42"]
    answered.body.close()
    assert unsubscribed()
    head = client.ask(app, method="HEAD")
    assert head.status == "200 OK"
    broadcaster.close()
    refused = client.ask(app)
    assert (refused.status, refused.text()) == ("503 Service Unavailable", "This server is shutting down.\n")
    assert 1 <= int(refused.headers["Retry-After"]) <= 5


def test_a_database_that_does_not_answer_gives_503_and_one_line_in_the_log(
    server: FakeServer, broadcaster: Broadcaster, caplog: pytest.LogCaptureFixture
) -> None:
    broadcaster.wait_connected(TIMEOUT)
    server.freeze()
    caplog.set_level("INFO", "pglisten.sse")
    asking = [gevent.spawn(ask, broadcaster, timeout=0.01) for _ in range(20)]
    gevent.joinall(asking, timeout=TIMEOUT, raise_error=True)
    for greenlet in asking:
        refused = greenlet.value
        assert (refused.code, b"".join(refused.body)) == (503, b"The database is not available.\n")
    server.thaw()
    assert ask(broadcaster, timeout=TIMEOUT).code == 200
    told = [record for record in caplog.records if record.name == "pglisten.sse"]
    assert [record.levelname for record in told] == ["WARNING", "INFO"]
    assert told[0].getMessage().startswith("event streams are refused: LISTEN 'orders': not done within 0.0")
    assert told[1].getMessage().startswith("event streams are served again: 20 were refused in ")


def test_a_log_handler_that_waits_lets_no_stream_beyond_the_limit_in(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    broadcaster.wait_connected(TIMEOUT)
    server.freeze()
    assert ask(broadcaster, timeout=0.01).code == 503
    server.thaw()
    app = sse.app(broadcaster, anyone, max_streams=1)
    meanwhile: list[str] = []

    class Waiting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meanwhile.append(client.ask(app).status)

    handler, logger = Waiting(), logging.getLogger("pglisten.sse")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        assert client.ask(app).status == "200 OK"
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert meanwhile == ["503 Service Unavailable"]


def test_an_owner_and_a_number_of_streams_limit_what_is_open(broadcaster: Broadcaster) -> None:
    answers = [ask(broadcaster, owner="ann", max_per_owner=1) for _ in range(2)]
    assert [answer.code for answer in answers] == [200, 429]
    sse.end_streams("ann", broadcaster, timeout=TIMEOUT)
    assert b"orders" not in b"".join(answers[0].body)


def test_a_view_in_a_stopping_worker_has_the_browser_come_back(
    broadcaster: Broadcaster, stopping: None
) -> None:
    streams.end()
    answer = ask(broadcaster)
    parser = parse(b"".join(answer.body))
    assert answer.code == 200
    assert parser.retry
    assert parser.last_event_id


def test_head_opens_no_stream(server: FakeServer, broadcaster: Broadcaster) -> None:
    assert b"".join(ask(broadcaster, environ={"REQUEST_METHOD": "HEAD"}).body) == b""
    assert not server.queries


@pytest.mark.parametrize(
    ("channels", "options", "message"),
    [
        (("gap",), {}, "channel 'gap' has the name of gap events"),
        (("orders",), {"owner": ""}, "owner is text"),
        (("orders",), {"max_per_owner": 0}, "max_per_owner is a number"),
        (("orders",), {"heartbeat": 0}, "heartbeat is seconds"),
    ],
)
def test_an_argument_that_cannot_work_is_an_error(
    broadcaster: Broadcaster, channels: tuple[str, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ask(broadcaster, *channels, **options)


def test_channels_are_checked(broadcaster: Broadcaster) -> None:
    with pytest.raises(ConfigurationError, match="at least one channel"):
        sse.response(broadcaster, {"REQUEST_METHOD": "GET"})
    with pytest.raises(InvalidChannelName):
        ask(broadcaster, "x" * 64)
    with pytest.raises(ConfigurationError, match="need a Broadcaster or an EventLog"):
        ask("postgresql:")  # type: ignore[arg-type]
