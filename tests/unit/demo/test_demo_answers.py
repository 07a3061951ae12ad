"""What the demo's web application answers, without gunicorn and on a server in memory."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults

import gevent
import pytest

from pglisten import Broadcaster
from pglisten._demo.common import Names
from pglisten._demo.shop import Post
from pglisten._demo.web.answers import MAX_BODY
from pglisten._demo.web.application import Application
from pglisten._demo.web.control import Request
from pglisten._demo.web.settings import VARIABLE, Settings
from pglisten._demo.web.state import StatePublisher
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT

MESSAGE = {"key": "1", "name": "Ada", "text": "hello"}

SETTINGS = Settings(
    dsn="",
    sender="",
    door=False,
    server="in memory",
    backends=("fake",),
    names=Names("orders", "backstage", None),
    restarts=True,
    run="this one",
    token="secret",
    any_host=False,
    workers=1,
)

Ask = Callable[..., tuple[int, dict[str, str], bytes]]


@pytest.fixture
def post(server: FakeServer) -> Post:
    """The sender, which does not use the worker's connection."""
    return Post("password=none", FakeBackend(server), "orders", None)


@pytest.fixture
def application(broadcaster: Broadcaster, publisher: StatePublisher, post: Post) -> Application:
    return Application(SETTINGS, broadcaster, publisher, post)


@pytest.fixture
def ask(application: Application) -> Ask:
    return asking(application)


def asking(application: Application) -> Ask:
    """Return a function that makes a request as the page does, except for what the test changes."""

    def ask(
        method: str, path: str, body: object = None, **variables: str
    ) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "HTTP_HOST": "127.0.0.1:8000",
            "HTTP_X_DEMO_TOKEN": "secret",
            "CONTENT_LENGTH": str(len(data)),
            "wsgi.input": io.BytesIO(data),
            **variables,
        }
        setup_testing_defaults(environ)
        started: list[Any] = []
        answer = b"".join(application(environ, lambda *arguments: started.extend(arguments)))  # type: ignore[arg-type]
        return int(started[0].split()[0]), dict(started[1]), answer

    return ask


def test_what_the_page_sends_is_sent_as_a_notification(ask: Ask, broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe("orders", timeout=TIMEOUT)
    status, _, answer = ask("POST", "/send", {"key": "1", "name": "Åsa", "text": '"hello"\n'})
    assert (status, json.loads(answer)) == (200, {})
    notification = subscription.get(TIMEOUT)
    assert notification is not None
    assert json.loads(notification.payload) == {"key": "1", "name": "Åsa", "text": '"hello"\n'}
    assert "Åsa" in notification.payload


def test_half_of_a_surrogate_pair_becomes_a_question_mark(ask: Ask, broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe("orders", timeout=TIMEOUT)
    body = b'{"key": "1", "name": "", "text": "\\ud800 \\u0000"}'
    assert ask("POST", "/send", body)[0] == 200
    notification = subscription.get(TIMEOUT)
    assert notification is not None
    assert json.loads(notification.payload)["text"] == "? \0"


@pytest.mark.parametrize("path", ["/send", "/cut", "/restart", "/reload"])
@pytest.mark.parametrize("token", ["", "wrong", "secret ", "sécret", "\xff"])
def test_nothing_is_done_for_who_has_not_the_token(ask: Ask, path: str, token: str) -> None:
    status, _, answer = ask("POST", path, MESSAGE, HTTP_X_DEMO_TOKEN=token)
    assert (status, json.loads(answer)) == (403, {"error": "this is for the page alone: reload it"})


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "10.0.0.1:80"]
)
def test_it_is_not_served_under_another_sites_name(ask: Ask, host: str) -> None:
    assert ask("GET", "/", HTTP_HOST=host)[0] == 403


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "demo.localhost:8000", "127.0.0.1", "127.8.8.8:80", "[::1]", "[::1]:80"],
)
def test_it_is_served_under_every_name_of_this_machine(ask: Ask, host: str) -> None:
    assert ask("GET", "/", HTTP_HOST=host)[0] == 200


def test_whoever_lets_other_machines_in_lets_them_use_any_name(
    broadcaster: Broadcaster, publisher: StatePublisher, post: Post
) -> None:
    settings = Settings.read(SETTINGS.variable() | {})
    assert settings == SETTINGS
    values = json.loads(SETTINGS.variable()[VARIABLE]) | {"any_host": True}
    opened = Application(Settings.read({VARIABLE: json.dumps(values)}), broadcaster, publisher, post)
    assert asking(opened)("GET", "/", HTTP_HOST="demo.example")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/../application.py", 404),
        ("GET", "/index.html", 404),
        ("POST", "/nothing", 404),
        ("POST", "/", 405),
        ("POST", "/events", 405),
        ("HEAD", "/events", 405),
        ("GET", "/send", 405),
        ("GET", "/restart", 405),
        ("HEAD", "/", 200),
    ],
)
def test_paths_and_methods(ask: Ask, method: str, path: str, status: int) -> None:
    found, headers, body = ask(method, path)
    assert found == status
    assert ("Allow" in headers) == (status == 405)
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert (body == b"") == (method == "HEAD")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b"null",
        b'"key"',
        b"[" * 50_000,
        b'{"key": "1", "name": "x"}',
        b'{"key": "1", "name": "x", "text": 1}',
        b'{"key": ["1"], "name": "x", "text": "y"}',
    ],
)
def test_what_the_page_would_not_send_is_refused(ask: Ask, body: bytes) -> None:
    status, _, answer = ask("POST", "/send", body)
    assert (status, json.loads(answer)) == (400, {"error": "that is not what the page sends"})


@pytest.mark.parametrize(("length", "status"), [("", 411), ("x", 411), ("-1", 413), (str(MAX_BODY + 1), 413)])
def test_a_body_is_read_only_as_far_as_it_may_go(ask: Ask, length: str, status: int) -> None:
    assert ask("POST", "/send", MESSAGE, CONTENT_LENGTH=length)[0] == status


def test_what_is_too_long_for_a_notification_is_said(ask: Ask) -> None:
    status, _, answer = ask("POST", "/send", MESSAGE | {"text": "x" * 8000})
    assert status == 400
    assert "the text is too long for a notification" in json.loads(answer)["error"]


def test_what_is_sent_while_the_worker_is_cut_off_is_committed(
    ask: Ask, server: FakeServer, broadcaster: Broadcaster
) -> None:
    subscription = broadcaster.subscribe("orders", timeout=TIMEOUT)
    server.cut()
    assert ask("POST", "/send", MESSAGE)[0] == 200
    assert ask("POST", "/send", MESSAGE | {"text": "heard"})[0] == 200
    # Whatever was missed, the gap stands before what comes after it.
    assert subscription.get(TIMEOUT) is None


def test_without_a_server_nothing_is_sent_and_that_is_said(ask: Ask, server: FakeServer) -> None:
    server.stop()
    status, _, answer = ask("POST", "/send", MESSAGE)
    assert status == 503
    assert json.loads(answer) == {"error": "PostgreSQL cannot be reached now"}


def test_buttons_are_bytes_for_the_demo_and_too_many_are_none(
    broadcaster: Broadcaster, publisher: StatePublisher, post: Post
) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        settings = SETTINGS.at(-1, theirs.detach())
        application = Application(settings, broadcaster, publisher, post)
        application.begin(master=-1)
        ask = asking(application)
        for path in ("/cut", "/restart", "/reload"):
            assert ask("POST", path)[0] == 202
        assert ours.recv(10) == b"".join(
            request.value for request in (Request.READY, Request.CUT, Request.RESTART, Request.RELOAD)
        )
        # The demo may be busy: the worker does not wait for it.
        with gevent.Timeout(TIMEOUT):
            assert {ask("POST", "/restart")[0] for _ in range(5000)} == {202}
        assert set(ours.recv(1_000_000)) == set(Request.RESTART.value)
    # And it may be gone.
    assert ask("POST", "/restart")[0] == 202
    assert application._watch is not None
    assert application._control is not None
    application._watch.join(TIMEOUT)
    assert application._watch.dead
    application._control.close()
