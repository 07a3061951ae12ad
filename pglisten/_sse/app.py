"""The WSGI application of `pglisten.sse`: it gives each request a stream, or refuses the request.

The application subscribes after all other checks. No subscription stays open without a response.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from .._sql import MAX_PAYLOAD, check_channel, check_payload
from ..errors import ConfigurationError, InvalidChannelName
from .opening import HEADERS, Opener, Refusal, bad_request, parameters
from .registry import streams
from .stream import ended_stream

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Authorize", "OwnerOf", "StreamApp", "check_cors", "check_owner"]

Authorize: TypeAlias = "Callable[[WSGIEnvironment, str], bool]"
OwnerOf: TypeAlias = "Callable[[WSGIEnvironment], str | None]"

logger = logging.getLogger("pglisten.sse")


class StreamApp:
    """See `pglisten.sse.app`."""

    def __init__(
        self,
        opener: Opener,
        authorize: Authorize | None,
        owner: OwnerOf | None,
        max_channels: int,
        cors: tuple[str, bool] | None,
    ) -> None:
        _check_function("authorize", authorize, "(environ, channel)")
        _check_function("owner", owner, "(environ)")
        if isinstance(max_channels, bool) or not isinstance(max_channels, int) or max_channels < 1:
            raise ConfigurationError(
                f"max_channels is a number from 1 up, not {max_channels!r}", option="max_channels"
            )
        self._opener = opener
        self._authorize = authorize
        self._owner_of = owner
        self._max_channels = max_channels
        self._cors = cors

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Return the response to a request."""
        cors = self._cors_headers(environ)
        head = environ["REQUEST_METHOD"] == "HEAD"
        opener = self._opener
        try:
            channels = self._requested_channels(environ)
            if head or streams.stopping:
                self._check_allowed(environ, channels)
                start_response("200 OK", [*HEADERS, *cors])
                return [] if head else [ended_stream(opener.form, opener.pacing, resumes=opener.resumes)]
            owner = None if self._owner_of is None else self._owner(environ, self._owner_of)
            stream = opener.open(environ, owner, lambda: self._check_allowed(environ, channels))
        except Refusal as refusal:
            start_response(refusal.status, [*refusal.headers, *cors])
            return [] if head else [refusal.body]
        try:
            start_response("200 OK", [*HEADERS, *cors])
        except BaseException:
            stream.close()
            raise
        return stream

    def __repr__(self) -> str:
        return f"<pglisten.sse.app streams={len(self._opener.open_streams)} of {self._opener.source!r}>"

    def _check_allowed(self, environ: WSGIEnvironment, channels: list[str]) -> list[str]:
        """Return *channels*; raise `Refusal` if one of them is not allowed."""
        for channel in channels:
            if not self._is_allowed(environ, channel):
                raise Refusal("403 Forbidden", f"Channel {channel!r} is not allowed.")
        return channels

    def _owner(self, environ: WSGIEnvironment, owner_of: OwnerOf) -> str | None:
        try:
            owner = owner_of(environ)
            return None if owner is None else check_owner(owner)
        except Exception as error:
            logger.exception("owner failed")
            raise _cannot_check() from error

    def _requested_channels(self, environ: WSGIEnvironment) -> list[str]:
        """Return the channels that the URL names; raise `Refusal` if there can be no stream of them."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            raise Refusal("405 Method Not Allowed", "A stream needs the method GET.", ("Allow", "GET, HEAD"))
        limit = self._max_channels
        try:
            pairs = parameters(environ)
            channels = list(dict.fromkeys(check_channel(value) for name, value in pairs if name == "channel"))
        except InvalidChannelName as error:
            raise bad_request(f"{error}.") from None
        except ValueError:
            raise bad_request("The query is not percent-encoded UTF-8.") from None
        if not channels:
            raise bad_request("Name a channel: ?channel=NAME. Repeat it for more channels.")
        if len(channels) > limit:
            raise bad_request(f"{len(channels)} channels are too many: the limit is {limit}.")
        if (conflict := self._opener.form.name_conflict(channels)) is not None:
            raise bad_request(f"{conflict}.")
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
            raise _cannot_check() from error
        return answer

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


def check_owner(owner: str) -> str:
    """Return *owner*; raise `ConfigurationError` if the text cannot travel in a notification."""
    try:
        if check_payload(owner):
            return owner
    except (TypeError, ValueError):
        pass  # The text may be secret, and so it is not in the message.
    what = "" if isinstance(owner, str) else f", not {type(owner).__name__}"
    raise ConfigurationError(
        f"owner is text of 1 to {MAX_PAYLOAD} bytes of UTF-8 without NUL{what}", option="owner"
    )


def _check_function(option: str, value: object, arguments: str) -> None:
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise ConfigurationError(f"{option} is a function of {arguments}, not {value!r}", option=option)


def _cannot_check() -> Refusal:
    return Refusal("500 Internal Server Error", "The server could not check whether this is allowed.")
