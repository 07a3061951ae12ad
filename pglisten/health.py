"""Whether this process listens, as a WSGI application for probes and people.

For instance::

    healthz = pglisten.health.app(broadcaster)

It reports, and answers 200 unless it is told to fail: when the database is away, all workers are deaf at
once, and a probe that fails takes all of them out of service.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ._options import seconds as check_seconds
from .broadcast import Broadcaster
from .errors import ConfigurationError
from .listener import Listener

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["AFTER", "Health", "app", "check"]

AFTER = 30.0
"""Seconds without a connection after which the answer is red: a failover takes less, a minute is noticed."""

Application: TypeAlias = "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]"


@dataclass(frozen=True)
class Health:
    """Whether one broadcaster or listener of this process listens."""

    state: str
    """``idle``: this process has not used it, so it need not listen. ``connected``: it listens to all its
    channels. ``connecting``: it has had no connection for less than ``after`` seconds. ``away``: for longer.
    ``closed``: ``close()`` was called, or the application has killed its greenlets, which the log has."""
    seconds: float
    """For how long there has been no connection; 0 in the other states."""

    @property
    def red(self) -> bool:
        """Whether it should listen, and has not for ``after`` seconds."""
        return self.state == "away"


def check(watched: Broadcaster | Listener, *, after: float = AFTER) -> Health:
    """Return the health of *watched* in this process, red after *after* seconds without a connection.

    Never waits, and asks the database nothing. Any thread may call it. Raises `ConfigurationError` for a
    wrong argument.
    """
    _check_watched(watched)
    check_seconds("after", after)
    return _health(watched, after)


def app(
    *watched: Broadcaster | Listener, after: float = AFTER, fail_after: float | None = None
) -> Application:
    """Return a WSGI application that reports the health of *watched*, those of the process that answers.

    It answers GET and HEAD with 200 and JSON: ``status`` is ``green``, or ``red`` if one of them should
    listen and has not for *after* seconds. ``pid`` is the process, and ``connections`` has a state and its
    seconds for each. With *fail_after* it answers 503 if one has not listened for so many seconds (``None``:
    never).

    Never waits, and asks the database nothing. Raises `ConfigurationError` for a wrong argument.
    """
    if not watched:
        raise ConfigurationError("app() needs a broadcaster or a listener", option="watched")
    for each in watched:
        _check_watched(each)
    check_seconds("after", after)
    check_seconds("fail_after", fail_after, none_means="never")

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if method not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Length", "0")])
            return []
        found = [_health(each, after) for each in watched]
        failed = fail_after is not None and any(each.seconds >= fail_after for each in found)
        body = _report(found)
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ]
        start_response("503 Service Unavailable" if failed else "200 OK", headers)
        return [] if method == "HEAD" else [body]

    return answer


def _health(watched: Broadcaster | Listener, after: float) -> Health:
    stats = watched.stats()
    if watched.closed:
        return Health("closed", 0.0)
    if stats.disconnected_for is not None:
        state = "connecting" if stats.disconnected_for < after else "away"
        return Health(state, stats.disconnected_for)
    return Health("idle" if stats.connected_since is None else "connected", 0.0)


def _report(found: list[Health]) -> bytes:
    # Without the last error: it may name hosts and users, and this answer may be public. The log has it.
    report = {
        "status": "red" if any(each.red for each in found) else "green",
        "pid": os.getpid(),
        "connections": [{"state": each.state, "seconds": round(each.seconds, 1)} for each in found],
    }
    return json.dumps(report).encode() + b"\n"


def _check_watched(watched: object) -> None:
    if not isinstance(watched, (Broadcaster, Listener)):
        raise ConfigurationError(
            f"health is that of a Broadcaster or a Listener, not of {watched!r}", option="watched"
        )
