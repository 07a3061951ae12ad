"""The web application: the page, its event stream, and the actions of its buttons."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import gevent.socket

from ..._greenlet import Greenlet, spawn
from ...broadcast import Broadcaster
from ...errors import ConnectionFailed, Error, PayloadTooLong
from ...eventlog import EventLog
from ...sse import HEADERS
from ..behind import shown
from ..common import FIRST_RETRY, LONGEST_RETRY, OUTAGE
from ..door import Door
from ..shop import Post, message
from .answers import FILES, SAFETY, Answer, Refusal, check_host, check_token, posted, reply
from .cast import Cast
from .control import Request
from .pages import Page
from .settings import Settings
from .state import StatePublisher

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["LEAVING", "Application", "make"]

LEAVING = b"event: leaving\ndata: {}\n\n"
"""The whole stream of a worker that is about to be replaced."""


def make() -> Application:
    """Return the application of a worker. `post_fork` has set the variable that chooses its backend."""
    # The page shows every failed attempt.
    logging.getLogger("pglisten.listener").setLevel(logging.ERROR)
    settings = Settings.read(os.environ)
    door = Door(settings.dsn) if settings.door else None
    publisher = StatePublisher()
    broadcaster = Broadcaster(
        door or settings.dsn,
        min_reconnect_interval=FIRST_RETRY,
        max_reconnect_interval=LONGEST_RETRY,
        event_callback=publisher.event,
    )
    names = settings.names
    post = Post(settings.sender, broadcaster.backend, names.channel, names.log)
    return Application(settings, broadcaster, publisher, post, door)


class Application:
    """A WSGI application; one for each worker."""

    def __init__(
        self,
        settings: Settings,
        broadcaster: Broadcaster,
        publisher: StatePublisher,
        post: Post,
        door: Door | None = None,
    ) -> None:
        self._settings = settings
        self._broadcaster = broadcaster
        self._publisher = publisher
        names = settings.names
        self._log = None if names.log is None else EventLog(names.log, broadcaster)
        self._post = post
        self._cast = Cast(broadcaster, names.backstage, door)
        self._control: gevent.socket.socket | None = None
        self._watch: Greenlet | None = None
        self._posts: dict[str, Callable[[WSGIEnvironment], Answer]] = {
            "/send": self._send,
            "/cut": lambda _: self._ask(Request.CUT),
            "/restart": lambda _: self._ask(Request.RESTART),
            "/reload": lambda _: self._ask(Request.RELOAD),
        }

    def begin(self, master: int) -> None:
        """Report that the worker is ready; end *master*, gunicorn's process, when the demo has ended."""
        control = self._control = gevent.socket.socket(fileno=self._settings.control)
        # The demo does not read during an outage; a full socket already holds enough requests.
        control.settimeout(0)
        self._watch = spawn("demo-watch", _end_with, control, master)
        self._cast.start()
        self._tell(Request.READY)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        try:
            check_host(environ, any_host=self._settings.any_host)
            if path == "/events" and method == "GET":
                start_response("200 OK", [*HEADERS, *SAFETY])
                if self._cast.leaving:
                    # An empty stream: the page tries again, until a new worker gets its request.
                    return [LEAVING]
                return self._page(parse_qs(environ.get("QUERY_STRING", "")))
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

    def _page(self, query: dict[str, list[str]]) -> Page:
        settings = self._settings
        # Names and positions of another demo at this address mean nothing here.
        again = query.get("run") == [settings.run]
        window = "".join(query.get("window", []))
        position = "".join(query.get("after", [])) if again else ""
        hello: dict[str, Any] = {
            "worker": os.getpid(),
            "backend": self._broadcaster.backend,
            "server": settings.server,
            "restarts": settings.restarts,
            "log": settings.names.log is not None,
            "outage": OUTAGE,
            "run": settings.run,
            "token": settings.token,
            "code": shown(),
        }
        return Page(
            self._broadcaster,
            self._log,
            settings.names.channel,
            self._publisher,
            self._cast,
            window=window if re.fullmatch(r"[\w-]{1,20}", window, re.ASCII) else "?",
            hello=hello,
            after=int(position) if re.fullmatch(r"[0-9]{1,18}", position) else None,
        )

    def _send(self, environ: WSGIEnvironment) -> Answer:
        key, name, text = posted(environ)
        payload = message(name, text, key)
        try:
            self._post.send(payload)
        except PayloadTooLong as error:
            raise Refusal("400 Bad Request", f"the text is too long for a notification: {error}") from None
        except ConnectionFailed:
            raise Refusal("503 Service Unavailable", "PostgreSQL cannot be reached now") from None
        except Error as error:
            raise Refusal("503 Service Unavailable", str(error)) from None
        return reply({})

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
