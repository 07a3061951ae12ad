"""The Flask extension: each application has a broadcaster, and functions run in its context."""

from __future__ import annotations

import gc
import inspect
import logging
import weakref
from collections.abc import Iterator
from typing import Any

import flask
import gevent
import pytest
from flask.testing import FlaskClient
from gevent import monkey
from gevent.event import Event

import pglisten
from pglisten import ConfigurationError, InvalidChannelName, _integration, sse
from pglisten._ownership import UNDER_GEVENT
from pglisten._sse.options import StreamOptions
from pglisten.flask import PgListen
from pglisten.testing import FakeBackend, FakeServer
from support.programs.event_source import parse
from support.timeouts import TIMEOUT

events = PgListen()
"""As in a module of an application with a factory: before there is an application."""

seen: list[tuple[str, str]] = []
arrived = Event()


@events.on("orders", on_gap=lambda: seen.append((flask.current_app.name, "gap")))
def note(notification: pglisten.Notification) -> None:
    seen.append((flask.current_app.name, notification.payload))
    arrived.set()


def create_app(name: str, **config: Any) -> flask.Flask:
    app = flask.Flask(name)
    app.config.from_mapping(PGLISTEN_MIN_RECONNECT_INTERVAL=0.001, PGLISTEN_DSN="password=none", **config)
    events.init_app(app)

    @app.get("/events")
    def stream() -> Any:
        return events.stream("orders", timeout=TIMEOUT)

    @app.post("/notify")
    def notify() -> Any:
        events.broadcaster.notify("orders", flask.request.form["text"], timeout=TIMEOUT)
        return "", 204

    return app


@pytest.fixture
def app(server: FakeServer) -> Iterator[flask.Flask]:
    made = create_app("shop", PGLISTEN_BACKEND=FakeBackend(server))
    yield made
    made.extensions["pglisten"].close()


@pytest.fixture
def client(app: flask.Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    arrived.clear()
    monkeypatch.setattr(_integration, "_warned", False)


def test_a_view_streams_what_another_one_sends(client: FlaskClient) -> None:
    answer = client.get("/events", buffered=False)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    body = iter(answer.iter_encoded())
    received = next(body)
    assert client.post("/notify", data={"text": "17"}).status_code == 204
    received += next(body)
    parser = parse(received)
    assert [(event.type, event.data) for event in parser.events] == [("orders", "17")]
    answer.close()
    again = client.get("/events", headers={"Last-Event-ID": parser.last_event_id}, buffered=False)
    assert [event.type for event in parse(next(iter(again.iter_encoded()))).events] == ["gap"]
    again.close()


def test_each_application_has_its_own_broadcaster(app: flask.Flask) -> None:
    other = create_app("other", PGLISTEN_BACKEND=FakeBackend())
    with app.app_context():
        assert events.broadcaster is app.extensions["pglisten"]
        assert events.log("events") is events.log("events")
    with other.app_context():
        assert events.broadcaster is other.extensions["pglisten"] is not app.extensions["pglisten"]
    with pytest.raises(ConfigurationError, match="call init_app"):
        _ = events.broadcaster
    with pytest.raises(ConfigurationError, match="once for each app"):
        events.init_app(other)
    alone = flask.Flask("alone")
    alone.config["PGLISTEN_BACKEND"] = FakeBackend()
    assert PgListen(alone).broadcaster is alone.extensions["pglisten"]


def test_an_extension_does_not_keep_an_application_that_is_gone() -> None:
    extension = PgListen()
    app = flask.Flask("short")
    app.config.from_mapping(PGLISTEN_BACKEND=FakeBackend(), PGLISTEN_DSN="password=none")
    extension.init_app(app)
    gone = weakref.ref(app)
    del app
    gc.collect()
    assert gone() is None


def test_functions_run_in_the_context_of_each_application(app: flask.Flask, server: FakeServer) -> None:
    broadcaster: pglisten.Broadcaster = app.extensions["pglisten"]
    broadcaster.start()
    server.wait_listened("orders", TIMEOUT)
    server.notify("orders", "18")
    assert arrived.wait(TIMEOUT)
    assert seen == [("shop", "gap"), ("shop", "18")]


def test_a_request_starts_the_functions_of_its_own_application(
    app: flask.Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gevent.monkey.is_module_patched", lambda name: True)
    other = create_app("other", PGLISTEN_BACKEND=FakeBackend())
    client.post("/notify", data={"text": ""})
    started = [each.extensions["pglisten"].stats().consumers for each in (app, other)]
    other.extensions["pglisten"].close()
    assert started == [1, 0]


def test_a_process_that_cannot_run_functions_says_so_once(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "pglisten.consumers")
    for _ in range(2):
        client.post("/notify", data={"text": ""})
    assert [record.getMessage() for record in caplog.records] == [
        f"functions of on() do not run: this process is not monkey-patched. {UNDER_GEVENT}"
    ]


def test_functions_that_run_need_no_warning(
    app: flask.Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    app.extensions["pglisten"].start()
    client.post("/notify", data={"text": ""})
    assert not [record for record in caplog.records if record.name == "pglisten.consumers"]


def test_a_server_of_gevents_needs_no_patch(app: flask.Flask, client: FlaskClient) -> None:
    client.post("/notify", data={"text": ""})  # Elsewhere, and with a warning.
    gevent.spawn(client.post, "/notify", data={"text": ""}).get(timeout=TIMEOUT)
    assert app.extensions["pglisten"].stats().consumers == 1


def test_requests_in_other_threads_start_no_functions_and_fail_not_for_it(
    app: flask.Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gevent.monkey.is_module_patched", lambda name: True)
    caplog.set_level(logging.WARNING, "pglisten.consumers")
    broadcaster: pglisten.Broadcaster = app.extensions["pglisten"]
    app.add_url_rule("/", view_func=lambda: "served")
    broadcaster.wait_connected(TIMEOUT)
    answers: list[str] = []
    thread = monkey.get_original("threading", "Thread")(
        target=lambda: answers.extend(app.test_client().get("/").text for _ in range(2))
    )
    thread.start()
    thread.join()
    assert answers == ["served"] * 2
    assert broadcaster.stats().consumers == 0
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("functions of on() do not run: called from another OS thread ")


def test_an_error_names_the_key_that_is_wrong() -> None:
    app = flask.Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = "postgresql+asyncpg://app@db/shop?ssl=require"
    with pytest.raises(ConfigurationError, match=r"^SQLALCHEMY_DATABASE_URI: .* did you mean sslmode"):
        PgListen(app)
    app.config["PGLISTEN_DSN"] = "hots=db"
    with pytest.raises(ConfigurationError, match=r"^PGLISTEN_DSN: .* did you mean host"):
        PgListen(app)
    app.config.update(PGLISTEN_DSN="", SQLALCHEMY_DATABASE_URI="postgresql://db", PGLISTEN_QUEUE_SIZE=0)
    with pytest.raises(ConfigurationError, match=r"^PGLISTEN_QUEUE_SIZE: "):
        PgListen(app)


def test_a_misspelt_option_of_a_function_is_refused_at_once() -> None:
    extension = PgListen()
    for log, option in ((None, "ongap"), (None, "consume"), ("shop", "queue_size")):
        with pytest.raises(TypeError, match=rf"on\(\): .*'{option}'"):
            extension.on("orders", log=log, **{option: None})(note)


def test_the_database_is_that_of_sqlalchemy_unless_it_is_another_kind() -> None:
    secret = "postgresql+psycopg2://ann:hush@db1:6000/shop"
    for config, place in (
        ({"SQLALCHEMY_DATABASE_URI": secret}, "db1:6000/shop"),
        ({"SQLALCHEMY_DATABASE_URI": secret, "PGLISTEN_DSN": "host=db2 dbname=b"}, "db2:5432/b"),
        ({"SQLALCHEMY_DATABASE_URI": "sqlite:///shop.db", "PGLISTEN_DSN": "host=db2 dbname=b"}, "db2:5432/b"),
    ):
        app = flask.Flask("shop")
        app.config.from_mapping(config)
        broadcaster = PgListen(app).broadcaster
        assert broadcaster._options.check().target.description == place
        assert "hush" not in repr(broadcaster)


def test_what_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="PGLISTEN_QUEUE_SIZE"):
        create_app("wrong", PGLISTEN_QUEUE_SIZE="many")
    fresh = PgListen()
    with pytest.raises(InvalidChannelName):
        fresh.on("")(note)
    with pytest.raises(TypeError, match="generator"):

        @fresh.on("orders")
        def never(notification: pglisten.Notification) -> Iterator[None]:
            yield


def test_the_options_of_a_stream_are_those_of_a_response() -> None:
    parameters = inspect.signature(sse.response).parameters.values()
    keywords = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(StreamOptions.__annotations__) == keywords
