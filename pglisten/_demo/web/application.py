"""The web application: the page, its event stream, and the actions of its buttons."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import gevent.socket

from ..._greenlet import Greenlet, spawn
from ...broadcast import Broadcaster
from ...errors import ListenerClosed, NotConnected, OperationTimeout, PayloadTooLong, ServerError
from ...sse import HEADERS
from .answers import FILES, SAFETY, Answer, Refusal, check_host, check_token, message_of, reply
from .control import Request
from .pages import Page
from .settings import Settings
from .state import StatePublisher

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Application", "make"]

FIRST_RETRY = 0.25
"""Seconds. Short, so that several attempts fail while the server is away."""

LONGEST_RETRY = 0.5
"""Seconds; short for the same reason. Programs should use the defaults of both."""

NOTIFY_TIMEOUT = 10.0
"""Seconds for a notification to be committed; the user of the page waits for it."""


def make() -> Application:
    """Return the application of a worker. `post_fork` has set the variable that chooses its backend."""
    # The page shows every failed attempt.
    logging.getLogger("pglisten.listener").setLevel(logging.ERROR)
    settings = Settings.read(os.environ)
    publisher = StatePublisher()
    broadcaster = Broadcaster(
        settings.dsn,
        min_reconnect_interval=FIRST_RETRY,
        max_reconnect_interval=LONGEST_RETRY,
        event_callback=publisher.event,
    )
    publisher.server_pid = lambda: broadcaster.stats().server_pid
    return Application(settings, broadcaster, publisher)


class Application:
    """A WSGI application; one for each worker."""

    def __init__(self, settings: Settings, broadcaster: Broadcaster, publisher: StatePublisher) -> None:
        self._settings = settings
        self._broadcaster = broadcaster
        self._publisher = publisher
        self._control: gevent.socket.socket | None = None
        self._watch: Greenlet | None = None
        self._posts: dict[str, Callable[[WSGIEnvironment], Answer]] = {
            "/send": self._send,
            "/restart": lambda _: self._ask(Request.RESTART),
            "/reload": lambda _: self._ask(Request.RELOAD),
        }

    def begin(self, master: int) -> None:
        """Report that the worker is ready; end *master*, gunicorn's process, when the demo has ended."""
        control = self._control = gevent.socket.socket(fileno=self._settings.control)
        # The demo does not read while the database restarts; a full socket already holds enough requests.
        control.settimeout(0)
        self._watch = spawn("demo-watch", _end_with, control, master)
        self._tell(Request.READY)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        try:
            check_host(environ, any_host=self._settings.any_host)
            if path == "/events" and method == "GET":
                start_response("200 OK", [*HEADERS, *SAFETY])
                return self._page(environ)
            answer = self._answer(environ, method, path)
        except Refusal as refusal:
            answer = refusal.answer
        start_response(answer.status, answer.headers)
        return [] if method == "HEAD" else [answer.body]

    def _answer(self, environ: WSGIEnvironment, method: str, path: str) -> Answer:
        if path in self._posts:
            if method != "POST":
                raise Refusal("405 Method Not Allowed", "this is for POST", ("Allow", "POST"))
            check_token(environ, self._settings.token)
            return self._posts[path](environ)
        if path not in FILES and path != "/events":
            raise Refusal("404 Not Found", "there is nothing here")
        if method not in ("GET", "HEAD") or path == "/events":
            raise Refusal("405 Method Not Allowed", "this is for GET", ("Allow", "GET"))
        return FILES[path]

    @property
    def _worker(self) -> dict[str, object]:
        return {"worker": os.getpid(), "backend": self._broadcaster.backend}

    def _page(self, environ: WSGIEnvironment) -> Page:
        settings = self._settings
        again = environ.get("HTTP_LAST_EVENT_ID")
        if environ.get("QUERY_STRING") == "again":
            # The page has opened a new stream after the browser stopped retrying the old one.
            again = again or ""
        hello = {
            "server": settings.server,
            "restarts": settings.restarts,
            "token": settings.token,
            "channels": [{"label": label, "name": name} for label, name in settings.channels.items()],
        }
        return Page(
            self._broadcaster,
            self._publisher,
            settings.channels.values(),
            worker=self._worker,
            hello=hello,
            last_event_id=again,
        )

    def _send(self, environ: WSGIEnvironment) -> Answer:
        channel, payload = message_of(environ)
        if channel not in self._settings.channels.values():
            raise Refusal("400 Bad Request", "that is none of the demo's channels")
        try:
            self._broadcaster.notify(channel, payload, NOTIFY_TIMEOUT)
        except PayloadTooLong as error:
            raise Refusal("400 Bad Request", f"the text is too long: {error}") from None
        except NotConnected:
            raise Refusal(
                "503 Service Unavailable", "the worker has no connection to the database now"
            ) from None
        except (ListenerClosed, OperationTimeout, ServerError, ConnectionError) as error:
            raise Refusal("503 Service Unavailable", str(error)) from None
        return reply(self._worker)

    def _ask(self, request: Request) -> Answer:
        self._tell(request)
        return reply({}, "202 Accepted")

    def _tell(self, request: Request) -> None:
        assert self._control is not None
        # The socket is full of requests, or the demo has ended.
        with contextlib.suppress(OSError):
            self._control.send(request.value)


def _end_with(control: gevent.socket.socket, master: int) -> None:
    """Wait until the demo has ended, then end gunicorn."""
    gevent.socket.wait_read(control.fileno())
    # The demo never sends here, so a readable socket means its end. If the master has ended too, the worker
    # has another parent, and gunicorn ends the worker by itself.
    if os.getppid() == master:
        os.kill(master, signal.SIGTERM)
