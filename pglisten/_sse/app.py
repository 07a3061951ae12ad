"""The WSGI application of `pglisten.sse`: it gives each request a stream, or refuses the request.

The application subscribes after all other checks. No subscription stays open without a response.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

from .. import _options
from .._sql import check_channel
from ..broadcast import Broadcaster
from ..errors import ConfigurationError, InvalidChannelName, ListenerClosed, OperationTimeout, ServerError
from .registry import streams
from .stream import EventFormat, EventStream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["HEADERS", "Authorize", "Limits", "StreamApp", "check_cors"]

Authorize: TypeAlias = "Callable[[WSGIEnvironment, str], bool]"

HEADERS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    # Proxies must neither store the stream nor compress it: compression delays events.
    ("Cache-Control", "no-store, no-transform"),
    # Middleware that compresses ignores no-transform, but skips a response that has an encoding. "identity"
    # means no encoding. RFC 9110, 8.4, calls the header unnecessary then; clients accept it.
    ("Content-Encoding", "identity"),
    # nginx buffers responses unless this header turns that off.
    ("X-Accel-Buffering", "no"),
)
"""The headers of a response whose body is a stream."""

RETRY_AFTER = 3.0
"""Seconds for the ``Retry-After`` header if ``retry`` is ``None``."""

logger = logging.getLogger("pglisten.sse")


@dataclass(frozen=True)
class Limits:
    """The limits of one application. Raises `ConfigurationError` for a number that is not above 0."""

    max_channels: int
    max_streams: int
    queue_size: int
    timeout: float

    def __post_init__(self) -> None:
        for name in ("max_channels", "max_streams"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} is a number from 1 up, not {value!r}", option=name)
        _options.queue_size(self.queue_size)
        _options.seconds("timeout", self.timeout)


class _Refusal(Exception):
    """The response to a request that gets no stream."""

    def __init__(self, status: str, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.body = (text + "\n").encode()
        self.headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *headers,
        ]


class StreamApp:
    """See `pglisten.sse.app`."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        authorize: Authorize | None,
        event_format: EventFormat,
        limits: Limits,
        cors: tuple[str, bool] | None,
    ) -> None:
        if authorize is not None and (not callable(authorize) or inspect.iscoroutinefunction(authorize)):
            raise ConfigurationError(
                f"authorize is a function of (environ, channel), not {authorize!r}", option="authorize"
            )
        self._broadcaster = broadcaster
        self._authorize = authorize
        self._format = event_format
        self._limits = limits
        self._cors = cors
        self._open_streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._subscribing = 0
        """Requests that wait until their channels are acknowledged."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Return the response to a request."""
        cors = self._cors_headers(environ)
        head = environ["REQUEST_METHOD"] == "HEAD"
        try:
            channels = self._authorized_channels(environ)
            if head or streams.stopping:
                start_response("200 OK", [*HEADERS, *cors])
                return [] if head else [self._ended_stream()]
            stream = self._open_stream(channels, reconnected="HTTP_LAST_EVENT_ID" in environ)
        except _Refusal as refusal:
            start_response(refusal.status, [*refusal.headers, *cors])
            return [] if head else [refusal.body]
        try:
            start_response("200 OK", [*HEADERS, *cors])
        except BaseException:
            stream.close()
            raise
        return stream

    def __repr__(self) -> str:
        return f"<pglisten.sse.app streams={len(self._open_streams)} of {self._broadcaster!r}>"

    def _authorized_channels(self, environ: WSGIEnvironment) -> list[str]:
        """Return the channels of the request; raise `_Refusal` if one of them is not allowed."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise _Refusal("405 Method Not Allowed", "A stream needs the method GET.", ("Allow", "GET, HEAD"))
        channels = self._requested_channels(environ)
        for channel in channels:
            if not self._is_allowed(environ, channel):
                raise _Refusal("403 Forbidden", f"Channel {channel!r} is not allowed.")
        return channels

    def _requested_channels(self, environ: WSGIEnvironment) -> list[str]:
        limit = self._limits.max_channels
        try:
            # WSGI passes bytes as latin-1 text (PEP 3333).
            query = environ.get("QUERY_STRING", "").encode("latin-1").decode()
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
            channels = list(dict.fromkeys(check_channel(value) for name, value in pairs if name == "channel"))
        except InvalidChannelName as error:
            raise _bad_request(f"{error}.") from None
        except ValueError:
            raise _bad_request("The query is not percent-encoded UTF-8.") from None
        if not channels:
            raise _bad_request("Name a channel: ?channel=NAME. Repeat it for more channels.")
        if len(channels) > limit:
            raise _bad_request(f"{len(channels)} channels are too many: the limit is {limit}.")
        if (conflict := self._format.name_conflict(channels)) is not None:
            raise _bad_request(f"{conflict}.")
        return channels

    def _is_allowed(self, environ: WSGIEnvironment, channel: str) -> bool:
        if self._authorize is None:
            return False
        try:
            answer = self._authorize(environ, channel)
            # Accept only real booleans: an un-awaited coroutine is truthy.
            if not isinstance(answer, bool):
                raise TypeError(f"authorize must return True or False, not {type(answer).__name__}")
        except Exception as error:
            logger.exception("authorize failed for channel %r", channel)
            raise _Refusal(
                "500 Internal Server Error", "The server could not check whether this is allowed."
            ) from error
        return answer

    def _open_stream(self, channels: list[str], *, reconnected: bool) -> EventStream:
        if len(self._open_streams) + self._subscribing >= self._limits.max_streams:
            raise self._retry_later(f"{self._limits.max_streams} streams are open: that is the limit.")
        self._subscribing += 1
        try:
            subscription = self._broadcaster.subscribe(
                *channels, queue_size=self._limits.queue_size, timeout=self._limits.timeout
            )
        except InvalidChannelName as error:  # The database's encoding would change the name.
            raise _bad_request(f"{error}.") from error
        except (OperationTimeout, ServerError) as error:
            logger.warning("a stream was refused: %s", error)
            raise self._retry_later("The database is not available.") from error
        except ListenerClosed as error:
            raise self._retry_later("This server is shutting down.") from error
        finally:
            self._subscribing -= 1
        return EventStream(
            subscription, self._format, reconnected=reconnected, open_streams=self._open_streams
        )

    def _ended_stream(self) -> bytes:
        """Return a stream that ends at once: the browser reconnects after ``retry``, to another worker.

        After any other status than 200 the browser would not reconnect.
        """
        return self._format.preamble("0").encode()

    def _retry_later(self, text: str) -> _Refusal:
        seconds = math.ceil(self._format.retry or RETRY_AFTER)
        return _Refusal("503 Service Unavailable", text, ("Retry-After", str(seconds)))

    def _cors_headers(self, environ: WSGIEnvironment) -> list[tuple[str, str]]:
        if self._cors is None:
            return []
        origin, credentials = self._cors
        if origin == "*":
            return [("Access-Control-Allow-Origin", "*")]
        # Sent to every origin: a cache must not give the response for one origin to another.
        headers = [("Vary", "Origin")]
        if environ.get("HTTP_ORIGIN") == origin:
            headers.append(("Access-Control-Allow-Origin", origin))
            if credentials:
                headers.append(("Access-Control-Allow-Credentials", "true"))
        return headers


def check_cors(origin: str | None, credentials: bool) -> tuple[str, bool] | None:
    """Return both; ``None`` without *origin*. Raise `ConfigurationError` if they cannot work."""
    if credentials and origin in (None, "*"):
        raise ConfigurationError("cors_credentials needs one exact origin in cors_origin")
    if origin is None:
        return None
    if not isinstance(origin, str) or not re.fullmatch(r"\*|[a-z][a-z0-9+.-]*://[^\s/?#@*]+", origin):
        raise ConfigurationError(
            f"cors_origin is '*' or one origin as browsers write it (https://example.com), not {origin!r}",
            option="cors_origin",
        )
    return origin, bool(credentials)


def _bad_request(text: str) -> _Refusal:
    return _Refusal("400 Bad Request", text[0].upper() + text[1:])
