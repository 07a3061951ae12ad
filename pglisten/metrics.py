"""Figures for Prometheus, also of many workers: pip install 'pglisten[metrics]'.

For instance, beside the broadcaster::

    pglisten.metrics.export(broadcaster)

and in ``gunicorn.conf.py``, with ``PROMETHEUS_MULTIPROC_DIR`` set::

    from pglisten.metrics import child_exit

In the multiprocess mode of prometheus_client, one worker answers for all of them from files that each worker
writes. So nothing is computed when the figures are read: each process writes its own every few seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from ._eventlog.source import consumers_of
from ._options import seconds as check_seconds
from .broadcast import Broadcaster
from .errors import ConfigurationError
from .eventlog import EventLog, broadcaster_of

try:
    import prometheus_client
    import prometheus_client.multiprocess  # pyright: ignore[reportUnusedImport] - it is `_client`'s

    from ._metrics.exporter import Exporter, exporters
    from ._metrics.figures import multiprocess
except ModuleNotFoundError as error:
    if error.name != "prometheus_client":
        raise
    raise ImportError("pglisten.metrics needs prometheus_client: pip install 'pglisten[metrics]'") from error

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


__all__ = ["app", "child_exit", "export"]

# Some of its functions have no types.
_client: Any = prometheus_client
Application: TypeAlias = "Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]"


def export(
    broadcaster: Broadcaster,
    *logs: EventLog,
    name: str = "default",
    interval: float = 5.0,
    log_interval: float = 30.0,
) -> None:
    """Write the figures of *broadcaster* and *logs* into prometheus_client's registry, in each process.

    It only notes that, so use it at import, also before a fork. ``broadcaster.start()``, or a hook of
    `pglisten.gunicorn`, starts to write, every *interval* seconds. *name* is the label ``name`` of the
    figures: broadcasters of one process have different ones. When the broadcaster is closed, its figures go.

    Every *log_interval* seconds, while it is connected, each process asks the database for the position of
    each log of *logs* and for its consumers' lags, over the broadcaster's session.

    Raises `ConfigurationError` for a wrong argument, and `ListenerClosed`.
    """
    if not isinstance(broadcaster, Broadcaster):
        raise ConfigurationError(f"broadcaster is a Broadcaster, not {broadcaster!r}", option="broadcaster")
    for log in logs:
        if not isinstance(log, EventLog) or broadcaster_of(log) is not broadcaster:
            raise ConfigurationError(f"{log!r} is no event log of this broadcaster", option="logs")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"name is a text that is not empty, not {name!r}", option="name")
    if any(each.name == name for each in exporters()):
        raise ConfigurationError(
            f"another broadcaster has the name {name!r}: give this one another name", option="name"
        )
    check_seconds("interval", interval)
    check_seconds("log_interval", log_interval)
    if multiprocess() and not os.path.isdir(folder := os.environ["PROMETHEUS_MULTIPROC_DIR"]):
        raise ConfigurationError(f"PROMETHEUS_MULTIPROC_DIR={folder} is no folder: make it first")
    exporter = Exporter(broadcaster, logs, name, interval, log_interval)
    consumers_of(broadcaster).note("pglisten.metrics", exporter.begin, counted=False)
    exporter.add()


def app() -> Application:
    """Return a WSGI application with all figures in prometheus_client's registry, for ``/metrics``.

    In multiprocess mode they are those of all processes. Those of the process that answers are of this
    moment, the others of their last *interval*. It asks the database nothing.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        for exporter in exporters():
            exporter.write()
        registry = _client.REGISTRY
        if multiprocess():
            # It reads the files of the moment: a new one for each answer, as prometheus_client documents it.
            registry = _client.CollectorRegistry()
            _client.multiprocess.MultiProcessCollector(registry)
        found: Iterable[bytes] = _client.make_wsgi_app(registry)(environ, start_response)
        return found

    return answer


def child_exit(server: object, worker: Any) -> None:
    """Forget the gauges of a worker that has ended, however it ended: a hook for ``gunicorn.conf.py``.

    gunicorn's master calls it. Counters stay, because what a worker has counted has happened.
    """
    if multiprocess():
        _client.multiprocess.mark_process_dead(worker.pid)
