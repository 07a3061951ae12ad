"""PostgreSQL LISTEN/NOTIFY for gevent web servers.

A `Listener` keeps one connection listening, and reconnects by itself when the connection is lost. A ``None``
in the stream then tells the consumer that notifications may be missing.
"""

from __future__ import annotations

from ._backends import available_backends, load_backend
from ._sql import quote_identifier
from .backend import Notification
from .broadcast import Broadcaster, BroadcasterStats, Subscription
from .connection import ListenerConnection
from .errors import (
    BackendNotFound,
    ChannelAlreadyOpen,
    ChannelNotOpen,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    Error,
    InvalidChannelName,
    ListenerClosed,
    NotConnected,
    OperationTimeout,
    PayloadTooLong,
    ServerError,
    SubscriptionOverflow,
)
from .eventlog import Entry, EventLog, Follower
from .listener import Listener, ListenerEvent, Stats
from .sending import notify_over

__version__ = "0.1.0"

__all__ = [
    "BackendNotFound",
    "Broadcaster",
    "BroadcasterStats",
    "ChannelAlreadyOpen",
    "ChannelNotOpen",
    "ConfigurationError",
    "ConnectionFailed",
    "ConnectionLost",
    "Entry",
    "Error",
    "EventLog",
    "Follower",
    "InvalidChannelName",
    "Listener",
    "ListenerClosed",
    "ListenerConnection",
    "ListenerEvent",
    "NotConnected",
    "Notification",
    "OperationTimeout",
    "PayloadTooLong",
    "ServerError",
    "Stats",
    "Subscription",
    "SubscriptionOverflow",
    "__version__",
    "available_backends",
    "load_backend",
    "notify_over",
    "quote_identifier",
]
