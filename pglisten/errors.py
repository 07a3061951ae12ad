"""Every error that pglisten raises.

::

    Error(Exception)
    ├── ConfigurationError (ValueError)     a bad DSN or option
    │   └── BackendNotFound                 unknown name, driver missing, or broken installation
    ├── InvalidChannelName (ValueError)
    ├── PayloadTooLong (ValueError)         .size .limit
    ├── ChannelAlreadyOpen
    ├── ChannelNotOpen
    ├── ListenerClosed
    ├── SubscriptionOverflow
    ├── NotConnected
    ├── OperationTimeout (TimeoutError)
    ├── ConnectionFailed (ConnectionError)  one attempt to connect; .sqlstate
    ├── ConnectionLost (ConnectionError)    an established connection; .sqlstate
    └── ServerError                         .severity .sqlstate .message .detail .hint

The driver's own exception, where there was one, is the ``__cause__``.
"""

from __future__ import annotations

import copy
import traceback
from typing import TypeVar

__all__ = [
    "BackendNotFound",
    "ChannelAlreadyOpen",
    "ChannelNotOpen",
    "ConfigurationError",
    "ConnectionFailed",
    "ConnectionLost",
    "Error",
    "InvalidChannelName",
    "ListenerClosed",
    "NotConnected",
    "OperationTimeout",
    "PayloadTooLong",
    "ServerError",
    "SubscriptionOverflow",
]


class Error(Exception):
    """Base class of every error that pglisten raises."""


class ConfigurationError(Error, ValueError):
    """A DSN, an option or a backend name is wrong. The message names it and says what to write instead.

    ``option`` is the name of the argument that is wrong (``"dsn"``, ``"queue_size"``). It is ``None`` if the
    mistake is elsewhere: in a ``PG*`` variable, a service file, or several settings together.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class BackendNotFound(ConfigurationError):
    """No such backend, its driver is not installed, or its installation is broken."""


class InvalidChannelName(Error, ValueError):
    """A channel name that PostgreSQL would refuse, cut or change."""


class PayloadTooLong(Error, ValueError):
    """A payload that PostgreSQL, or an event log, would refuse.

    ``size`` is its length and ``limit`` the longest accepted one, both in bytes of UTF-8.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(size, limit)
        self.size = size
        self.limit = limit

    def __str__(self) -> str:
        return (
            f"the payload has {self.size} bytes of UTF-8, and at most {self.limit} are accepted: "
            "store it in a table and send its key"
        )


class ChannelAlreadyOpen(Error):
    """``listen()`` was called for a channel that is in the set already."""


class ChannelNotOpen(Error):
    """``unlisten()`` was called for a channel that is not in the set, or it ended a waiting ``listen()``."""


class ListenerClosed(Error):
    """The listener, connection, broadcaster or subscription was closed by ``close()``."""


class SubscriptionOverflow(Error):
    """The subscription's queue was full, and ``overflow="close"`` has ended the subscription."""


class NotConnected(Error):
    """There is no connection at the moment. The ``__cause__`` is the last error, if there was one."""


class OperationTimeout(Error, TimeoutError):
    """The call's own ``timeout`` passed.

    If a call waited for a connection, the ``__cause__`` is the error of the last failed attempt, or the loss
    of the connection before the first one. ``None`` if there was no error, or the connection is back.
    """


class _ConnectionTrouble(Error, ConnectionError):
    """Base of both connection errors. ``sqlstate`` is the server's code, or ``None`` if it gave none."""

    def __init__(self, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class ConnectionFailed(_ConnectionTrouble):
    """One attempt to connect failed.

    ``sqlstate`` is the server's code (``28P01`` for a wrong password) or ``None`` if it gave none.
    """


class ConnectionLost(_ConnectionTrouble):
    """An established connection has ended.

    ``sqlstate`` is the server's code (``57P01`` after ``pg_terminate_backend``) or ``None`` if it gave none.
    """


class ServerError(Error):
    """The server refused a statement; the connection is fine.

    ``severity`` is ``ERROR``, ``sqlstate`` the five-character code. ``detail`` and ``hint`` are ``None`` if
    the server gave none.
    """

    def __init__(
        self,
        message: str,
        *,
        severity: str = "ERROR",
        sqlstate: str = "XX000",
        detail: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.severity = severity
        self.sqlstate = sqlstate
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.severity} {self.sqlstate}: {self.message}"
        if self.detail:
            text += f" (detail: {self.detail})"
        if self.hint:
            text += f" (hint: {self.hint})"
        return text


_E = TypeVar("_E", bound=BaseException)


def copy_for_raise(error: _E) -> _E:
    """Return a copy of *error* to raise.

    The cause of a connection's end is raised in many greenlets. One object would collect the tracebacks of
    all of them, and keep their frames alive.
    """
    fresh = copy.copy(error)
    fresh.__cause__ = error.__cause__
    fresh.__suppress_context__ = True
    return fresh


def without_frames(error: _E) -> _E:
    """Remove the tracebacks of *error* and of all its causes and contexts; return *error*.

    The variables in their frames hold passwords and payloads. Error trackers (Sentry, Elastic APM) record the
    frames of an error, of its causes and of a log record's ``exc_info``.
    """
    links: list[BaseException] = [error]
    for link in links:
        link.__traceback__ = None
        led_to_it = (link.__cause__, link.__context__)
        links += [each for each in led_to_it if each is not None and each not in links]
    return error


def told(error: BaseException) -> str:
    """Return *error* with its traceback as text, for a log; then remove its tracebacks."""
    text = "".join(traceback.format_exception(error))
    without_frames(error)
    return text
