"""Notifications for browsers: Server-Sent Events over WSGI.

`stream` makes the body of a response, for any framework; `app` is a WSGI application of its own. Both
belong under a gevent server, where each open stream is a greenlet that waits.
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

    The subscription is the stream's from now on: it ends with the client, with the worker (see
    `pglisten.gunicorn`), and with the stream's ``close()``. First comes *retry*, the seconds after which a
    browser is to connect again (``None``: its own choice). After *heartbeat* seconds of silence comes a
    comment, by which the server notices that a client is gone. A client that has not taken a chunk after
    *send_timeout* seconds counts as gone: the greenlet that iterates gets a ``BrokenPipeError``.

    Each notification is an event with an ``id``. Its name is *event*, or what that returns for the
    notification, less any line breaks (``None``: the channel; ``""``: no name, for a browser's
    ``onmessage``), and its data what *encode* returns for it (``None``: the payload). A gap is an event
    named *gap* with empty data. One comes first where *last_event_id* is not ``None``: it is the request's
    ``Last-Event-ID``, with which a browser says that it was here before, and what came in between is gone.

    Where the subscription has overflowed, or the server has refused one of its channels, the stream ends
    after a gap event.

    Raises `ConfigurationError` for an option that cannot work.
    """
    if not isinstance(subscription, Subscription):
        raise ConfigurationError(
            f"a stream is made of a Broadcaster's subscription, not of {subscription!r}",
            option="subscription",
        )
    event_format = EventFormat(heartbeat, retry, event, encode, gap, send_timeout)
    if last_event_id is not None and not isinstance(last_event_id, str):
        raise ConfigurationError(
            f"last_event_id is a header's text or None, not {last_event_id!r}", option="last_event_id"
        )
    if (conflict := event_format.name_conflict(subscription.channels)) is not None:
        raise ConfigurationError(f"{conflict}: name those of channels with event=, or gap events with gap=")
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
    """Return a WSGI application that streams the channels of its URL: ``?channel=orders&channel=stock``.

    *authorize* is called with the environ and a channel, for each that a request names, and answers
    ``True`` or ``False``. Without it every channel is refused. A request may name *max_channels* channels,
    and a process have *max_streams* streams of this application open. The broadcaster has *timeout*
    seconds to have the channels acknowledged. Where *queue_size* notifications wait for a client, the oldest
    give way to a gap; the other options are those of `stream`.

    Pages of other origins may not read the streams, but those of *cors_origin*, as browsers write it
    (``https://example.com``), or all (``"*"``). With *cors_credentials* that one's may send cookies along.

    Raises `ConfigurationError` for an option that cannot work.
    """
    if not isinstance(broadcaster, Broadcaster):
        raise ConfigurationError(
            f"streams are made of a Broadcaster, not of {broadcaster!r}", option="broadcaster"
        )
    limits = Limits(max_channels, max_streams, queue_size, timeout)
    event_format = EventFormat(heartbeat, retry, event, encode, gap, send_timeout)
    return StreamApp(broadcaster, authorize, event_format, limits, check_cors(cors_origin, cors_credentials))
