"""The options and numbers in docs/sse.md are those of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import falcon
import flask
import pytest
from django.http import StreamingHttpResponse

from pglisten import Broadcaster, sse
from pglisten.gunicorn import _capacity
from pglisten.testing import FakeBackend
from support.programs.wsgi import WsgiClient

TEXT = (Path(__file__).parents[3] / "docs" / "sse.md").read_text()


def _defaults(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def test_every_option_of_stream_is_there_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT.partition("## What a gap means")[0], re.MULTILINE)
    )
    said: dict[str, Any] = {"the channel": None, "the payload": None, "`None`": None, '`"gap"`': "gap"}
    said["`(1, 5)`"] = (1, 5)
    assert {name: said[text] if text in said else float(text) for name, text in rows.items()} == _defaults(
        sse.stream
    )


def test_the_numbers_of_app_are_the_real_ones() -> None:
    defaults = _defaults(sse.app)
    for name in ("max_channels", "queue_size"):
        assert f"`{name}` ({defaults[name]})" in TEXT
    assert f"`timeout` ({defaults['timeout']:g} s)" in TEXT


@pytest.mark.parametrize("function", [sse.app, sse.response])
def test_all_ways_take_every_option_of_stream_that_is_no_requests_own(function: Any) -> None:
    stream = _defaults(sse.stream)
    del stream["last_event_id"]
    options = _defaults(function)
    assert {name: options[name] for name in stream} == stream


@pytest.mark.parametrize(("connections", "free"), [(1000, 100), (10_000, 1000), (50, 10), (10, 5), (1, 0)])
def test_the_connections_that_stay_free_are_those_of_the_page(connections: int, free: int) -> None:
    assert "tenth of `worker_connections` free, and 10 at least" in " ".join(TEXT.split())
    assert _capacity(connections) == connections - free


BEGINNING = "\ufeffid: ".encode()
VIEWS = dict(
    re.findall(r"^(Flask|Django|Falcon)\b[^\n]*:\n\n```py\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
)


@pytest.fixture
def names() -> Iterator[dict[str, Any]]:
    """What the page's views use."""
    with Broadcaster(backend=FakeBackend()) as broadcaster:
        yield {"sse": sse, "broadcaster": broadcaster}


def test_the_view_for_flask_streams(names: dict[str, Any]) -> None:
    app = names["app"] = flask.Flask("shop")
    exec(VIEWS["Flask"], names | {"request": flask.request})
    answer = app.test_client().get("/events", buffered=False)
    assert next(answer.iter_encoded()).startswith(BEGINNING)
    answer.close()


def test_the_view_for_django_streams(names: dict[str, Any]) -> None:
    exec(VIEWS["Django"], names | {"StreamingHttpResponse": StreamingHttpResponse}, names)
    answer = names["events"](SimpleNamespace(META={"REQUEST_METHOD": "GET"}))
    # Without settings it cannot be closed: the stream ends with the broadcaster.
    assert next(iter(answer.streaming_content)).startswith(BEGINNING)


def test_the_view_for_falcon_streams(names: dict[str, Any]) -> None:
    exec(VIEWS["Falcon"], names)
    app = falcon.App()
    app.add_route("/events", names["Events"]())
    client = WsgiClient()
    answer = client.ask(app, PATH_INFO="/events", SCRIPT_NAME="")
    assert next(iter(answer.body)).startswith(BEGINNING)
    client.close()
