"""Notifications for browsers: Server-Sent Events over WSGI.

`stream` returns the body of a response, for any framework. `app` returns a complete WSGI application. Both
need a gevent server, where each open stream is a greenlet that waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._sse.app import HEADERS, Authorize, Limits, StreamApp, check_cors
from ._sse.stream import GAP, Encode, EventFormat, EventName, EventStream
from .broadcast import Broadcaster, Subscription
from .errors import ConfigurationError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

__all__ = ["GAP", "HEADERS", "EventStream", "app", "stream"]


def stream(
    subscription: Subscription,
    *,
    heartbeat: float = 15.0,
    retry: float | None = 3.0,
    event: EventName | None = None,
    encode: Encode | None = None,
    gap: str = GAP,
    send_timeout: float = 60.0,
    last_event_id: str | None = None,
) -> EventStream:
    """Return the body of a response: *subscription*'s notifications as events, an iterator over bytes.

    The stream owns the subscription from now on. The subscription is closed when the client disconnects,
    when the worker stops (see `pglisten.gunicorn`), and by the stream's ``close()``.

    The stream begins with *retry*, the seconds after which a browser reconnects (``None``: the browser's own
    choice). After *heartbeat* seconds of silence the stream sends a comment, so that the server notices if
    the client is gone. If the client has not taken a chunk within *send_timeout* seconds, the greenlet that
    iterates gets a ``BrokenPipeError``.

    Each notification is an event with an ``id``. *event* is the event's name, or a function that returns it
    for a notification. With ``None`` the name is the channel. With ``""`` the event has no name, and a
    browser calls ``onmessage``. Line breaks in the name are removed. *encode* returns the event's data for a
    notification (``None``: the payload).

    A gap is an event named *gap* with empty data. *last_event_id* is the request's ``Last-Event-ID`` header,
    which a browser sends when it reconnects. If it is not ``None``, the stream begins with a gap, because
    the notifications in between are lost.

    If the subscription overflows, or the server refuses one of its channels, the stream ends with a gap.

    Raises `ConfigurationError` for an option that cannot work.
    """
    if not isinstance(subscription, Subscription):
        raise ConfigurationError(
            f"a stream needs a Broadcaster's subscription, not {subscription!r}",
            option="subscription",
        )
    event_format = EventFormat(heartbeat, retry, event, encode, gap, send_timeout)
    if last_event_id is not None and not isinstance(last_event_id, str):
        raise ConfigurationError(
            f"last_event_id is a header's text or None, not {last_event_id!r}", option="last_event_id"
        )
    if (conflict := event_format.name_conflict(subscription.channels)) is not None:
        raise ConfigurationError(f"{conflict}: name events with event=, or gap events with gap=")
    return EventStream(subscription, event_format, reconnected=last_event_id is not None)


def app(
    broadcaster: Broadcaster,
    authorize: Authorize | None = None,
    *,
    max_channels: int = 32,
    max_streams: int = 10_000,
    queue_size: int = 256,
    heartbeat: float = 15.0,
    retry: float | None = 3.0,
    event: EventName | None = None,
    encode: Encode | None = None,
    gap: str = GAP,
    send_timeout: float = 60.0,
    cors_origin: str | None = None,
    cors_credentials: bool = False,
    timeout: float = 10.0,
) -> WSGIApplication:
    """Return a WSGI application that streams the channels in its URL: ``?channel=orders&channel=stock``.

    The application calls *authorize* with the environ and a channel, for each channel that a request names.
    *authorize* returns ``True`` or ``False``. Without *authorize* every channel is refused. A request may
    name *max_channels* channels. A process may have *max_streams* streams of this application open.

    If the server has not acknowledged the channels within *timeout* seconds, the response is a 503. If more
    than *queue_size* notifications wait for a client, a gap replaces the oldest. The other options are those
    of `stream`.

    *cors_origin* is another origin whose pages may read the streams, as browsers write it
    (``https://example.com``), or ``"*"`` for all origins. With *cors_credentials* the pages of that one
    origin may send cookies.

    Raises `ConfigurationError` for an option that cannot work.
    """
    if not isinstance(broadcaster, Broadcaster):
        raise ConfigurationError(f"streams need a Broadcaster, not {broadcaster!r}", option="broadcaster")
    limits = Limits(max_channels, max_streams, queue_size, timeout)
    event_format = EventFormat(heartbeat, retry, event, encode, gap, send_timeout)
    return StreamApp(broadcaster, authorize, event_format, limits, check_cors(cors_origin, cors_credentials))
