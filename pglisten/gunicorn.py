"""Hooks for gunicorn's gevent workers: they start consumers, and end event streams when the worker stops.

In ``gunicorn.conf.py``::

    from pglisten.gunicorn import post_fork, post_worker_init, worker_exit

An open event stream is a request in flight, and a worker that stops waits for those until
``graceful_timeout``. With these hooks the streams of `pglisten.sse` end at once. Everything else continues
until the worker has answered its other requests.

gunicorn has no hook for a graceful stop. A worker learns of it by SIGTERM, which the master also sends for
HUP and TTOU, or by ``worker.alive``, which ``max_requests`` and the reloader set to false. So these hooks
wrap the signal's handler, and ``worker.notify()``, which gunicorn calls every second. On INT and QUIT, or
without its master, a worker does not wait for requests: then ``worker_exit`` ends the streams.

``post_worker_init`` starts the functions of ``Broadcaster.on`` and ``EventLog.on`` in each worker, and never
in the master. They end with the worker, in ``worker_exit``: its last requests still find a cache up to date.
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
from ._consumers.registry import start_all, stop_all
from ._greenlet import spawn
from ._sse.registry import streams
from .listener import CLOSE_GRACE

__all__ = ["green", "post_fork", "post_worker_init", "worker_exit"]

GRACE_PERIOD = 1.0
"""Seconds that streams have to end by themselves. A client that takes no data would keep its stream open."""

PostFork: TypeAlias = Callable[[Any, Any], object]


class Worker(Protocol):
    """The part of gunicorn's gevent workers that the hooks use."""

    alive: bool
    cfg: Any
    log: Any
    notify: Callable[[], None]


def post_fork(server: object, worker: object) -> None:
    """Drop the streams of the process from which the worker was forked."""
    streams.reset()


def green(hook: PostFork = post_fork) -> PostFork:
    """Return a hook that makes psycopg2 green, and then calls *hook*.

    In ``gunicorn.conf.py``: ``post_fork = green(post_fork)``. Then all psycopg2 connections of the
    application wait cooperatively. Listeners and event streams do not need it. It has a price; see
    `pglisten_psycopg2.make_green`.

    Raises `BackendNotFound` if psycopg2 is not installed.
    """
    package = type(load_backend("psycopg2")).__module__.partition(".")[0]
    make_green: Callable[[], None] = import_module(package).make_green

    def post_fork(server: Any, worker: Any) -> None:
        make_green()
        hook(server, worker)

    return post_fork


def post_worker_init(worker: Worker) -> None:
    """Start the worker's consumers, limit its event streams, and end them as soon as it has to stop.

    By default, applications of `pglisten.sse` leave a tenth of ``worker_connections`` free, at least 10. So
    the worker answers 503 to further streams, and goes on answering other requests.
    """
    streams.capacity = _capacity(worker.cfg.worker_connections)
    if monkey.is_module_patched("socket"):
        _StopWatcher(worker).watch()
        start_all()
    else:
        worker.log.warning(
            "pglisten: this is not a gevent worker (-k gevent): streams block it, and consumers do not run"
        )


def worker_exit(server: object, worker: object) -> None:
    """End streams and consumers, and close the worker's broadcasters, so that no server session is left."""
    _end_streams()
    stop_all(CLOSE_GRACE)
    close_all(CLOSE_GRACE)


def _capacity(worker_connections: int) -> int:
    """Return how many of a worker's connections may be streams."""
    free = max(worker_connections // 10, min(10, worker_connections // 2))
    return max(1, worker_connections - free)


class _StopWatcher:
    """Notices that the worker has to stop, and ends its streams."""

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
            # Python calls a signal handler in any greenlet, or in the hub, where nothing may wait.
            self._loop.run_callback_threadsafe(self._stop_streams)

        signal.signal(signal.SIGTERM, on_term)
        # gunicorn sets this too, and signal() resets it.
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
    """Let the streams end by themselves; return whether all have ended."""
    streams.end()
    return streams.wait_closed(GRACE_PERIOD)


def _end_or_abort_streams() -> None:
    if not _end_streams():
        streams.abort()


def _close_connections(worker: Any) -> None:
    """Make a worker that stops close each connection after its current request.

    gunicorn would keep the connection alive, and the worker would wait for another request: forever with
    ``gevent_pywsgi``, which has no limit. A browser whose stream has ended would return to the same worker.
    """
    if getattr(worker, "wsgi_handler", None) is not None:
        worker.wsgi_handler = _closing_handler(worker.wsgi_handler, worker)
    else:
        worker.handle_request = _closing_handle_request(worker.handle_request, worker)


def _closing_handle_request(handle_request: Callable[..., Any], worker: Worker) -> Callable[..., Any]:
    def handle_and_close(*arguments: Any) -> Any:
        result = handle_request(*arguments)
        if not worker.alive:
            raise StopIteration  # gunicorn closes the connection on this exception.
        return result

    return handle_and_close


def _closing_handler(handler: Any, worker: Worker) -> Any:
    def handle_one_request(self: Any) -> Any:
        result = handler.handle_one_request(self)
        return None if result is True and not worker.alive else result

    return type(handler.__name__, (handler,), {"handle_one_request": handle_one_request})
