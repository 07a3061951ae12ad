"""Opens streams for requests, or refuses: limits, owners, and a database that does not answer."""

from __future__ import annotations

import logging
import math
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from .. import _options
from .._deadline import Deadline
from .._ownership import Owner
from .._sql import check_channel
from ..broadcast import Broadcaster
from ..errors import ConfigurationError, InvalidChannelName, ListenerClosed, OperationTimeout, ServerError
from ..eventlog import EventLog, broadcaster_of
from .form import EventForm, Pacing
from .outage import Outage
from .owners import Admission, Owners
from .registry import streams
from .resume import start_of
from .sources import Source, SubscriptionSource, begin_following, rounded
from .stream import EventStream, Opening, chance

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["HEADERS", "Limits", "Opener", "Refusal", "bad_request", "parameters"]

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
    """The limits of streams. Raises `ConfigurationError` for a number that is not above 0."""

    max_streams: int | None
    max_per_owner: int | None
    queue_size: int
    timeout: float

    def __post_init__(self) -> None:
        for name in ("max_streams", "max_per_owner"):
            if getattr(self, name) is not None:
                _options_count(name, getattr(self, name))
        _options.queue_size(self.queue_size)
        _options.seconds("timeout", self.timeout)


def _options_count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} is a number from 1 up, not {value!r}", option=name)


class Refusal(Exception):
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


def bad_request(text: str) -> Refusal:
    """Return the refusal of a request that is wrong in itself."""
    return Refusal("400 Bad Request", text[0].upper() + text[1:])


class Shared:
    """What all streams of one broadcaster share in this process."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self.outage = Outage()
        self.owners = Owners(broadcaster)


_shared: weakref.WeakKeyDictionary[Broadcaster, Shared] = weakref.WeakKeyDictionary()


def shared_of(broadcaster: Broadcaster) -> Shared:
    """Return what the streams of *broadcaster* share. A forked child begins with nothing."""
    shared = _shared.get(broadcaster)
    if shared is None or shared.owners.process.forked:
        shared = _shared[broadcaster] = Shared(broadcaster)
    return shared


class Opener:
    """Open streams of one source, with the same options."""

    def __init__(
        self, source: Broadcaster | EventLog, form: EventForm, pacing: Pacing, limits: Limits
    ) -> None:
        if not isinstance(source, (Broadcaster, EventLog)):
            raise ConfigurationError(
                f"streams need a Broadcaster or an EventLog, not {source!r}", option="source"
            )
        self.source = source
        self.form = form
        self.pacing = pacing
        self._limits = limits
        self._broadcaster = source if isinstance(source, Broadcaster) else broadcaster_of(source)
        self.open_streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._opening = 0
        """Requests that wait until their stream can begin."""
        self._process = Owner()

    @property
    def resumes(self) -> bool:
        """Whether a client that was away resumes after the last event that it has had."""
        return isinstance(self.source, EventLog)

    def checked(self, channels: Sequence[str]) -> list[str]:
        """Return *channels*, each once; raise an error if there can be no stream of them."""
        names = list(dict.fromkeys(map(check_channel, channels)))
        if not names:
            raise ConfigurationError("a stream has at least one channel", option="channels")
        if (conflict := self.form.name_conflict(names)) is not None:
            raise ConfigurationError(f"{conflict}: name events with event=, or gap events with gap=")
        return names

    def open(
        self,
        environ: WSGIEnvironment,
        owner: str | None,
        authorize: Callable[[], list[str]],
    ) -> EventStream:
        """Return a stream of the channels that *authorize* returns; raise `Refusal`.

        *authorize* is called after the stream counts as that of *owner*, so that a revocation from then on
        ends the stream.
        """
        deadline = Deadline(self._limits.timeout)
        self._check_capacity()
        self._opening += 1
        streams.opening += 1
        admission = None
        try:
            if owner is not None:
                admission = self._admit(owner, deadline)
            channels = authorize()
            source, missing = self._available(lambda: self._begin(environ, channels, deadline))
            opening = Opening(missing, admission)
            stream = EventStream(source, self.form, self.pacing, opening, self.open_streams)
        except BaseException:
            if admission is not None:
                admission.release()
            raise
        finally:
            self._opening -= 1
            streams.opening -= 1
        if (text := shared_of(self._broadcaster).outage.served(time.monotonic())) is not None:
            logger.info("%s", text)
        return stream

    def retry_later(self, status: str, text: str) -> Refusal:
        """Return a refusal that says when to ask again."""
        delay = self.pacing.reconnect_delay(chance()) or RETRY_AFTER
        return Refusal(status, text, ("Retry-After", str(math.ceil(delay))))

    def _check_capacity(self) -> None:
        limit = self._limits.max_streams
        if self._process.forked:  # The streams belong to the parent.
            self._process, self.open_streams, self._opening = Owner(), weakref.WeakSet(), 0
        if limit is not None:
            full = len(self.open_streams) + self._opening >= limit
        else:
            limit = streams.capacity
            full = limit is not None and len(streams) + streams.opening >= limit
        if full:
            raise self.retry_later("503 Service Unavailable", f"{limit} streams are open: that is the limit.")

    def _admit(self, owner: str, deadline: Deadline) -> Admission:
        owners, limit = shared_of(self._broadcaster).owners, self._limits.max_per_owner
        self._available(lambda: owners.listen(rounded(deadline)))
        if limit is not None and owners.count(owner) >= limit:
            raise self.retry_later(
                "429 Too Many Requests", f"{limit} streams of one user are open: that is the limit."
            )
        return owners.admit(owner)

    def _begin(
        self, environ: WSGIEnvironment, channels: list[str], deadline: Deadline
    ) -> tuple[Source, bool]:
        size, left = self._limits.queue_size, rounded(deadline)
        last_event_id = environ.get("HTTP_LAST_EVENT_ID")
        if isinstance(self.source, EventLog):
            after = [value for name, value in parameters(environ, "replace") if name == "after"]
            start = start_of(last_event_id, after[-1] if after else None)
            return begin_following(self.source, channels, start, size, left)
        subscription = self.source.subscribe(*channels, queue_size=size, timeout=left)
        return SubscriptionSource(subscription), last_event_id is not None

    def _available(self, call: Callable[[], Any]) -> Any:
        """Return what *call* returns; raise `Refusal` if the database is not there for it."""
        outage = shared_of(self._broadcaster).outage
        try:
            return call()
        except (OperationTimeout, ServerError) as error:
            if (text := outage.refused(str(error), time.monotonic())) is not None:
                logger.warning("%s", text)
            raise self.retry_later("503 Service Unavailable", "The database is not available.") from error
        except ListenerClosed as error:
            raise self.retry_later("503 Service Unavailable", "This server is shutting down.") from error
        except InvalidChannelName as error:  # The database's encoding would change the name.
            raise bad_request(f"{error}.") from error


def parameters(environ: WSGIEnvironment, errors: str = "strict") -> list[tuple[str, str]]:
    """Return the names and values of the request's URL.

    *errors* says what becomes of those that are not UTF-8, as in `bytes.decode`: ``"strict"`` raises
    `ValueError`.
    """
    # WSGI passes bytes as latin-1 text (PEP 3333).
    query = environ.get("QUERY_STRING", "").encode("latin-1", errors).decode(errors=errors)
    return parse_qsl(query, keep_blank_values=True, errors=errors)
