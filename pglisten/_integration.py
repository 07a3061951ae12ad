"""What the extension for Flask and the application for Django share: a site's broadcaster and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import gevent
from gevent import monkey
from greenlet import getcurrent

from ._consumers.registry import check_function, is_serving
from ._eventlog.source import consumers_of
from ._options import on_gap as check_on_gap
from ._ownership import UNDER_GEVENT
from ._sql import check_channel
from ._sse.options import StreamOptions
from .broadcast import Broadcaster
from .errors import ConfigurationError, Error
from .eventlog import EventLog
from .sse import Response, response

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["Function", "Noted", "OnGap", "Site", "configured", "noted", "serve"]

Function = TypeVar("Function", bound=Callable[..., object])
OnGap: TypeAlias = "Callable[..., object] | None"
Around = Callable[[], "AbstractContextManager[object]"]

logger = logging.getLogger("pglisten.consumers")


class Noted(NamedTuple):
    """A function that consumes, noted before there is a site for it."""

    function: Callable[..., object]
    channels: tuple[str, ...]
    log: str | None
    on_gap: OnGap
    options: dict[str, Any]


def noted(
    function: Callable[..., object],
    channels: tuple[str, ...],
    log: str | None,
    on_gap: OnGap,
    options: dict[str, Any],
) -> Noted:
    """Return it, checked as far as that is possible without a site."""
    check_function(function)
    check_on_gap(on_gap)
    try:
        signature(Broadcaster.on if log is None else EventLog.on).bind(None, *channels, **options)
    except TypeError as error:
        raise TypeError(f"on(): {error}") from None
    return Noted(function, tuple(map(check_channel, channels)), log, on_gap, options)


class Site:
    """The broadcaster of one web application, and its event logs.

    Functions that consume run inside what *around* returns, as requests do.
    """

    def __init__(self, broadcaster: Broadcaster, around: Around) -> None:
        self.broadcaster = broadcaster
        self._around = around
        self._logs: dict[str, EventLog] = {}

    def log(self, name: str) -> EventLog:
        """Return the event log *name*: the same one each time, because each has a reader of its own."""
        schema, dot, plain = name.rpartition(".")
        if name not in self._logs:
            self._logs[name] = EventLog(plain, self.broadcaster, schema=schema if dot else "public")
        return self._logs[name]

    def stream(
        self, environ: WSGIEnvironment, channels: tuple[str, ...], log: str | None, options: StreamOptions
    ) -> Response:
        """Return the answer to a request, a stream of *channels* of the log or the broadcaster."""
        return response(self._source(log), environ, *channels, **options)

    def on(self, each: Noted) -> None:
        """Have the broadcaster run a function that was noted."""
        options = dict(each.options, on_gap=each.on_gap and self._inside(each.on_gap))
        if callable(connect := options.get("connect")):
            options["connect"] = self._inside(connect)
        self._source(each.log).on(*each.channels, **options)(self._inside(each.function))

    def _source(self, log: str | None) -> Any:
        return self.broadcaster if log is None else self.log(log)

    def _inside(self, function: Callable[..., object]) -> Callable[..., object]:
        @wraps(function)
        def run(*arguments: object) -> object:
            with self._around():
                return function(*arguments)

        return run


def configured(config: Any, key: str, url: str) -> Broadcaster:
    """Return a broadcaster from *config*; without a ``PGLISTEN_DSN`` its database is *url*, of *key*."""
    if not url or config.get("PGLISTEN_DSN"):
        return Broadcaster.from_config(config)
    try:
        return Broadcaster.from_config(config, dsn=url)
    except ConfigurationError as error:
        if error.option == "dsn":
            error.args = (f"{key}: {error}",)
        raise


_warned = False


def serve(broadcaster: Broadcaster) -> None:
    """Start the functions of *broadcaster* before its application's first request, where no hook has.

    A development server that is not monkey-patched serves in threads, and blocks the event loop: there they
    cannot run.
    """
    global _warned  # noqa: PLW0603
    if is_serving() or broadcaster.closed:
        return
    reason: object = f"this process is not monkey-patched. {UNDER_GEVENT}"
    in_greenlet = isinstance(getcurrent(), gevent.Greenlet)  # gevent's own server needs no patch.
    if in_greenlet or monkey.is_module_patched("socket") or consumers_of(broadcaster).of_this_process():
        try:
            broadcaster.start()
            return
        except Error as error:  # Requests are served in threads.
            reason = error
    if not _warned:
        _warned = True
        logger.warning("functions of on() do not run: %s", reason)
