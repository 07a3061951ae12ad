"""Notifications and entries of event logs for browsers: Server-Sent Events over WSGI.

`response` returns what a view answers, for any framework. `app` returns a complete WSGI application, and
`stream` the body of a response. All need a gevent server, where each open stream is a greenlet that waits.

With a `Broadcaster` or a `Subscription`, a client that was away gets a gap. With an `EventLog` or a
`Follower`, the ``id`` of an event is its position, and a client that was away gets what it has missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from ._completion import check_timeout
from ._eventlog.cursors import runner
from ._sse.app import Authorize, OwnerOf, StreamApp, check_cors, check_owner
from ._sse.form import CONTROL_CHANNEL, GAP, Encode, EventForm, EventName, Pacing, Retry
from ._sse.opening import HEADERS, Limits, Opener, Refusal
from ._sse.registry import streams
from ._sse.sources import FollowerSource, Source, SubscriptionSource
from ._sse.stream import EventStream, Opening, ended_stream
from .broadcast import Broadcaster, Subscription
from .errors import ConfigurationError
from .eventlog import EventLog, Follower, broadcaster_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

__all__ = ["GAP", "HEADERS", "EventStream", "Response", "app", "end_streams", "response", "stream"]


class Response(NamedTuple):
    """What a view answers: a stream, or why there is none. In Flask, return it as it is."""

    body: Iterator[bytes]
    status: str
    """As in ``200 OK``."""
    headers: list[tuple[str, str]]

    @property
    def code(self) -> int:
        """The number of the status."""
        return int(self.status[:3])


def stream(
    source: Subscription | Follower,
    *,
    heartbeat: float = 15.0,
    retry: Retry = (1.0, 5.0),
    event: EventName | None = None,
    encode: Encode | None = None,
    gap: str = GAP,
    gap_spread: float = 0.0,
    max_age: float | None = None,
    send_timeout: float = 60.0,
    last_event_id: str | None = None,
) -> EventStream:
    """Return the body of a response: what *source* returns as events, an iterator over bytes.

    The stream owns *source* from now on. It is closed when the client disconnects, when the worker stops
    (see `pglisten.gunicorn`), and by the stream's ``close()``.

    The stream begins with the seconds after which a browser reconnects: *retry*, or a random number between
    the two of *retry* (``None``: the browser's own choice). After *heartbeat* seconds of silence the stream
    sends a comment, so that the server notices if the client is gone. If the client has not taken a chunk
    within *send_timeout* seconds, the greenlet that iterates gets a ``BrokenPipeError``. After *max_age*
    seconds, or up to a tenth earlier, the stream ends, so that the client comes back (``None``: never).

    Each notification or entry is an event with an ``id``. *event* is the event's name, or a function that
    returns it for a notification or an entry. With ``None`` the name is the channel. With ``""`` the event
    has no name, and a browser calls ``onmessage``. Line breaks in the name are removed. *encode* returns the
    event's data for a notification or an entry (``None``: the payload). Streams with the same functions share
    the events: each function is called once for all of them.

    A gap is an event named *gap*. It is held back, and what follows too, for a random part of *gap_spread*
    seconds, so that not all clients do at once what a gap makes them do.

    With a `Subscription`, *last_event_id* is the request's ``Last-Event-ID`` header, which a browser sends
    when it reconnects. If it is not ``None``, the stream begins with a gap, because the notifications in
    between are lost. With a `Follower`, the ``id`` is the position, and a gap has none. Follow from the
    position that the client sends: `response` and `app` do that.

    If the subscription overflows, or the server refuses one of its channels, the stream ends with a gap.

    Raises `ConfigurationError` for an option that cannot work.
    """
    if isinstance(source, Subscription):
        kind: Source = SubscriptionSource(source)
    elif isinstance(source, Follower):
        kind = FollowerSource(source)
    else:
        raise ConfigurationError(
            f"a stream needs a Broadcaster's subscription or an EventLog's follower, not {source!r}",
            option="source",
        )
    form = EventForm(event, encode, gap)
    pacing = Pacing(heartbeat, retry, send_timeout, gap_spread, max_age)
    if last_event_id is not None and not isinstance(last_event_id, str):
        raise ConfigurationError(
            f"last_event_id is a header's text or None, not {last_event_id!r}", option="last_event_id"
        )
    if last_event_id is not None and isinstance(source, Follower):
        raise ConfigurationError(
            "last_event_id is for notifications: follow(after=...) begins at the client's position, "
            "and sse.response() reads it from the request",
            option="last_event_id",
        )
    if (conflict := form.name_conflict(source.channels)) is not None:
        raise ConfigurationError(f"{conflict}: name events with event=, or gap events with gap=")
    return EventStream(kind, form, pacing, Opening(missing=last_event_id is not None))


def response(
    source: Broadcaster | EventLog,
    environ: WSGIEnvironment,
    *channels: str,
    owner: str | None = None,
    max_per_owner: int | None = None,
    max_streams: int | None = None,
    queue_size: int = 256,
    heartbeat: float = 15.0,
    retry: Retry = (1.0, 5.0),
    event: EventName | None = None,
    encode: Encode | None = None,
    gap: str = GAP,
    gap_spread: float = 0.0,
    max_age: float | None = None,
    send_timeout: float = 60.0,
    timeout: float = 10.0,
) -> Response:
    """Return the answer of a view to the request *environ*: a stream of *channels*, or a refusal.

    The view decides first whether the user may read *channels*. The stream begins where the request says: a
    browser that reconnects sends ``Last-Event-ID``, and a page that was rendered at a position of an
    `EventLog` has it in the URL, as ``?after=``. With an unknown position of a log, and after a time without
    a connection to a `Broadcaster`, the stream begins with a gap.

    If the database does not answer within *timeout* seconds, or *max_streams* are open, the answer is a 503
    with ``Retry-After``. If *owner*, the user, has *max_per_owner* streams open in this process, it is a 429.
    `end_streams` ends the streams of *owner*. The other options are those of `app` and `stream`.

    Raises `ConfigurationError` or `InvalidChannelName` for an argument that cannot work.
    """
    limits = Limits(max_streams, max_per_owner, queue_size, timeout)
    form = EventForm(event, encode, gap)
    opener = Opener(source, form, Pacing(heartbeat, retry, send_timeout, gap_spread, max_age), limits)
    if owner is not None:
        check_owner(owner)
    names = opener.checked(channels)
    if environ["REQUEST_METHOD"] == "HEAD":
        return Response(iter(()), "200 OK", list(HEADERS))
    if streams.stopping:
        ended = ended_stream(form, opener.pacing, resumes=opener.resumes)
        return Response(iter((ended,)), "200 OK", list(HEADERS))
    try:
        return Response(opener.open(environ, owner, lambda: names), "200 OK", list(HEADERS))
    except Refusal as refusal:
        return Response(iter((refusal.body,)), refusal.status, refusal.headers)


def app(
    source: Broadcaster | EventLog,
    authorize: Authorize | None = None,
    *,
    owner: OwnerOf | None = None,
    max_per_owner: int | None = None,
    max_channels: int = 32,
    max_streams: int | None = None,
    queue_size: int = 256,
    heartbeat: float = 15.0,
    retry: Retry = (1.0, 5.0),
    event: EventName | None = None,
    encode: Encode | None = None,
    gap: str = GAP,
    gap_spread: float = 0.0,
    max_age: float | None = None,
    send_timeout: float = 60.0,
    cors_origin: str | None = None,
    cors_credentials: bool = False,
    timeout: float = 10.0,
) -> WSGIApplication:
    """Return a WSGI application that streams the channels in its URL: ``?channel=orders&channel=stock``.

    The application calls *authorize* with the environ and a channel, for each channel that a request names.
    *authorize* returns ``True`` or ``False``. Without *authorize* every channel is refused. A request may
    name *max_channels* channels.

    *owner* is called with the environ, before *authorize*. It returns the user as text, or ``None`` for
    a request without one. A user may have *max_per_owner* streams open in a process. `end_streams` ends them.

    A process may have *max_streams* streams of this application open. ``None`` means a share of gunicorn's
    ``worker_connections``, for all streams of the process together, if the hooks of `pglisten.gunicorn` are
    installed. Otherwise there is no limit.

    If the server has not acknowledged the channels within *timeout* seconds, the response is a 503. If more
    than *queue_size* notifications wait for a client, a gap replaces the oldest; entries of a log are read
    *queue_size* at a time. The other options are those of `stream`, and the beginning is that of `response`.

    *cors_origin* is another origin whose pages may read the streams, as browsers write it
    (``https://example.com``), or ``"*"`` for all origins. With *cors_credentials* the pages of that one
    origin may send cookies.

    Raises `ConfigurationError` for an option that cannot work.
    """
    limits = Limits(max_streams, max_per_owner, queue_size, timeout)
    pacing = Pacing(heartbeat, retry, send_timeout, gap_spread, max_age)
    opener = Opener(source, EventForm(event, encode, gap), pacing, limits)
    return StreamApp(opener, authorize, owner, max_channels, check_cors(cors_origin, cors_credentials))


def end_streams(
    owner: str,
    source: Broadcaster | EventLog | None = None,
    *,
    cursor: object = None,
    timeout: float | None = None,
) -> None:
    """End the streams of *owner* in all processes that stream from the database of *source*.

    Call it when the rights of a user change, after the commit. Or pass the *cursor* of the transaction that
    changes them, as to `EventLog.append`, and no *source*: then the streams end at its commit. The clients
    come back, and are authorised again. A process whose connection is down ends all streams that have an
    owner when it is connected again.

    Without *cursor*, raises what `Broadcaster.notify` does: after an error call it again. *timeout* is in
    seconds; ``None`` waits forever. Raises `ConfigurationError` for an owner that cannot be one.
    """
    check_owner(owner)
    timeout = check_timeout(timeout)
    if cursor is not None:
        runner(cursor)("SELECT pg_catalog.pg_notify(%s, %s)", (CONTROL_CHANNEL, owner))
        return
    if not isinstance(source, (Broadcaster, EventLog)):
        raise ConfigurationError(f"end_streams needs a Broadcaster or an EventLog, not {source!r}")
    broadcaster = source if isinstance(source, Broadcaster) else broadcaster_of(source)
    broadcaster.notify(CONTROL_CHANNEL, owner, timeout)
