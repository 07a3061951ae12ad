"""Hooks for gunicorn's gevent workers, by which event streams end when their worker stops.

In ``gunicorn.conf.py``::

    from pglisten.gunicorn import post_fork, post_worker_init, worker_exit

An open event stream is a request in flight, and for those a worker that is asked to stop waits until
``graceful_timeout``. With these hooks the streams of `pglisten.sse` end at once; all else goes on until
the other requests in flight are done.

gunicorn has no hook for the moment. A worker that is to finish its requests first is told by TERM, as which
the master's HUP, TTOU and TERM arrive, or by ``worker.alive``, which ``max_requests`` and the reloader turn
false: so the signal's handler is wrapped, and ``worker.notify()``, which gunicorn calls every second. A
worker that does not wait for requests, on INT and QUIT or without its master, gets to ``worker_exit``: the
streams have their last chance there.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, Protocol, TypeAlias

import gevent
from gevent import monkey

from ._backends import load_backend
from ._broadcast.fanout import close_all
from ._greenlet import spawn
from ._sse.registry import streams
from .listener import CLOSE_GRACE

__all__ = ["green", "post_fork", "post_worker_init", "worker_exit"]

GRACE_PERIOD = 1.0
"""Seconds that streams have to end by themselves. The client that takes nothing any more lets none end."""

PostFork: TypeAlias = Callable[[Any, Any], object]


class Worker(Protocol):
    """What is used of gunicorn's gevent workers."""

    alive: bool
    log: Any
    notify: Callable[[], None]


def post_fork(server: object, worker: object) -> None:
    """Begin without the streams of the process that the worker was forked from."""
    streams.reset()


def green(hook: PostFork = post_fork) -> PostFork:
    """Return a hook that makes psycopg2 green, and then calls *hook*.

    In ``gunicorn.conf.py``: ``post_fork = green(post_fork)``. It makes all psycopg2 connections of the worker
    wait cooperatively: those of the application, for what listens needs it not. It has a price; see
    `pglisten_psycopg2.make_green`.

    Raises `BackendNotFound` where psycopg2 is not installed.
    """
    package = type(load_backend("psycopg2")).__module__.partition(".")[0]
    make_green: Callable[[], None] = import_module(package).make_green

    def post_fork(server: Any, worker: Any) -> None:
        make_green()
        hook(server, worker)

    return post_fork


def post_worker_init(worker: Worker) -> None:
    """Have the worker's event streams end when it is asked to stop."""
    if monkey.is_module_patched("socket"):
        _StopWatcher(worker).watch()
    else:
        worker.log.warning("pglisten: this is no gevent worker (-k gevent): event streams will block it")


def worker_exit(server: object, worker: object) -> None:
    """End the streams that are left, and close the worker's broadcasters: no server session stays behind."""
    _end_streams()
    close_all(CLOSE_GRACE)


class _StopWatcher:
    """How one worker notices that it is to stop, and what becomes of its streams then."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = gevent.get_hub().loop
        self._stopping = False

    def watch(self) -> None:
        self._wrap_term()
        self._wrap_notify()
        _close_connections(self._worker)

    def _wrap_term(self) -> None:
        previous = signal.getsignal(signal.SIGTERM)

        def on_term(number: int, frame: FrameType | None) -> None:
            if callable(previous):
                previous(number, frame)
            # Python calls this in whatever greenlet there is, or in the hub, where nothing may wait.
            self._loop.run_callback_threadsafe(self._stop_streams)

        signal.signal(signal.SIGTERM, on_term)
        # As gunicorn has it; signal() has undone it.
        signal.siginterrupt(signal.SIGTERM, False)

    def _wrap_notify(self) -> None:
        worker, previous = self._worker, self._worker.notify

        def notify() -> None:
            if not worker.alive:
                self._stop_streams()
            previous()

        worker.notify = notify

    def _stop_streams(self) -> None:
        if not self._stopping:
            self._stopping = True
            spawn("pglisten-stream-ender", _end_or_abort_streams)


def _end_streams() -> bool:
    """Let the streams end by themselves; return whether all have."""
    streams.end()
    return streams.wait_closed(GRACE_PERIOD)


def _end_or_abort_streams() -> None:
    if not _end_streams():
        streams.abort()


def _close_connections(worker: Any) -> None:
    """Have a worker that is to stop close each connection after the request in flight.

    gunicorn would keep them for the next one: it would hold up the end, for ever in ``gevent_pywsgi``, which
    has no limit for it; and the browser, whose stream has ended, would come back to the same worker.
    """
    if getattr(worker, "wsgi_handler", None) is not None:
        worker.wsgi_handler = _closing_handler(worker.wsgi_handler, worker)
    else:
        worker.handle_request = _closing_handle_request(worker.handle_request, worker)


def _closing_handle_request(handle_request: Callable[..., Any], worker: Worker) -> Callable[..., Any]:
    def handle_and_close(*arguments: Any) -> Any:
        result = handle_request(*arguments)
        if not worker.alive:
            raise StopIteration  # gunicorn's own word for it
        return result

    return handle_and_close


def _closing_handler(handler: Any, worker: Worker) -> Any:
    def handle_one_request(self: Any) -> Any:
        result = handler.handle_one_request(self)
        return None if result is True and not worker.alive else result

    return type(handler.__name__, (handler,), {"handle_one_request": handle_one_request})
