"""A Django application: the project's broadcaster, event streams, and functions that consume.

``INSTALLED_APPS`` has ``"pglisten.django"``. For instance, in a module of views::

    def events(request):
        return pglisten.django.stream(request, "orders")

`dsn` works without the application. Django itself is needed: ``pip install 'pglisten[django]'``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import _integration
from .._integration import Function, Noted, OnGap, Site
from ..broadcast import Broadcaster
from ..eventlog import EventLog
from ._dsn import dsn, is_default

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .._sse.options import StreamOptions

__all__ = ["broadcaster", "dsn", "log", "on", "stream"]


def broadcaster() -> Broadcaster:
    """Return the project's broadcaster, always the same one.

    Its options are those of the settings, with the keys of `Broadcaster.from_config`. Without
    ``PGLISTEN_DSN`` the database is ``DATABASES["default"]``, if the project has one. It connects on
    its first use in each process. Raises `ConfigurationError`.
    """
    return _site().broadcaster


def log(name: str) -> EventLog:
    """Return the event log *name*, or ``schema.name``, of the project's broadcaster."""
    return _site().log(name)


def stream(request: Any, *channels: str, log: str | None = None, **options: Unpack[StreamOptions]) -> Any:
    """Return a view's answer to *request*: a ``StreamingHttpResponse`` with an event stream of *channels*.

    With *log* it is a stream of that event log, which resumes. Otherwise it has notifications. The options, a
    503 if the database does not answer, and errors are those of `pglisten.sse.response`. The connections that
    the view has used are closed, after the commit if it is in a transaction: the stream does not need them.
    """
    answer = _site().stream(request.META, channels, log, options)
    for connection in import_module("django.db").connections.all(initialized_only=True):
        # A test may run what waits for the commit within the transaction that it will undo.
        if connection.in_atomic_block:
            connection.on_commit(lambda each=connection: each.in_atomic_block or each.close())
        else:
            connection.close()
    made: Any = import_module("django.http").StreamingHttpResponse
    return made(answer.body, status=answer.code, headers=dict(answer.headers))


def on(
    *channels: str, log: str | None = None, on_gap: OnGap = None, **options: Any
) -> Callable[[Function], Function]:
    """Return a decorator for a function that each process calls with what arrives on *channels*.

    Use it in a module that is imported at the start, for instance by ``ready()`` of an application. Before
    and after each call, connections that are lost or too old are closed, as for a request. *options* are the
    others of `Broadcaster.on`, or with *log* of `EventLog.on`. The functions start by gunicorn's hook, or
    before the first request of a process that is monkey-patched. Elsewhere call ``broadcaster().start()``.
    """

    def note(function: Function) -> Function:
        each = _integration.noted(function, channels, log, on_gap, options)
        _noted.append(each)
        if _sites:
            _sites[0].on(each)
        return function

    return note


_noted: list[Noted] = []
_sites: list[Site] = []
"""The project's, once it is made."""


def _site() -> Site:
    if not _sites:
        settings: Any = import_module("django.conf").settings
        # A function: the tests of a project rename its database after this.
        given: Any = {"dsn": dsn} if is_default() else {}
        site = Site(Broadcaster.from_config(settings, **given), _fresh_connections)
        try:
            for each in _noted:
                site.on(each)
        except BaseException:
            site.broadcaster.close()  # Its functions are not to start.
            raise
        _sites.append(site)
    return _sites[0]


@contextmanager
def _fresh_connections() -> Generator[None, None, None]:
    close_old_connections: Callable[[], None] = import_module("django.db").close_old_connections
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()
