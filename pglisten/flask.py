"""A Flask extension: one broadcaster for each application, event streams, and functions that consume.

For instance::

    events = pglisten.flask.PgListen()  # or PgListen(app)

    @app.get("/events")
    def stream():
        return events.stream("orders")

Flask itself is needed: ``pip install 'pglisten[flask]'``.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _integration
from ._cli.main import main
from ._conninfo.urls import rendered
from ._integration import Function, Noted, OnGap, Site
from .broadcast import Broadcaster
from .errors import ConfigurationError
from .eventlog import EventLog
from .sse import Response

try:
    import click
    from flask import Flask, current_app, has_app_context, request
except ModuleNotFoundError as error:
    if error.name not in ("click", "flask"):
        raise
    raise ImportError("pglisten.flask needs Flask: pip install 'pglisten[flask]'") from error

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._sse.options import StreamOptions

__all__ = ["PgListen"]

URI = "SQLALCHEMY_DATABASE_URI"


class PgListen:
    """The broadcaster of a Flask application. Without *app*, call `init_app` in the application's factory."""

    def __init__(self, app: Flask | None = None) -> None:
        self._app = app
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._noted: list[Noted] = []
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Make the broadcaster of *app* from its configuration, as ``app.extensions["pglisten"]``.

        The keys are those of `Broadcaster.from_config`. Without ``PGLISTEN_DSN`` the database is that of
        ``SQLALCHEMY_DATABASE_URI``, if that is PostgreSQL's. The broadcaster connects on its first use in
        each process. Raises `ConfigurationError` for a wrong value, or if *app* has a broadcaster already.
        """
        if "pglisten" in app.extensions:
            raise ConfigurationError('app.extensions["pglisten"] is there: call init_app() once for each app')
        site = Site(_integration.configured(app.config, URI, _url(app)), app.app_context)
        for each in self._noted:
            site.on(each)
        # The application keeps it: kept here, it would keep the application.
        app.extensions.update({"pglisten": site.broadcaster, "pglisten.site": site})
        self._apps.add(app)
        app.before_request(lambda: _integration.serve(site.broadcaster) if self._noted else None)
        app.cli.add_command(_command(app))

    @property
    def broadcaster(self) -> Broadcaster:
        """The broadcaster of the current application, or of the one that this was made with."""
        return self._site().broadcaster

    def log(self, name: str) -> EventLog:
        """Return the event log *name*, or ``schema.name``, of the current application's broadcaster."""
        return self._site().log(name)

    def stream(self, *channels: str, log: str | None = None, **options: Unpack[StreamOptions]) -> Response:
        """Return a view's answer to the current request: an event stream of *channels*.

        With *log* it is a stream of that event log, which resumes. Otherwise it has notifications. The
        options, a 503 if the database does not answer, and errors are those of `pglisten.sse.response`.
        """
        return self._site().stream(request.environ, channels, log, options)

    def on(
        self, *channels: str, log: str | None = None, on_gap: OnGap = None, **options: Any
    ) -> Callable[[Function], Function]:
        """Return a decorator for a function that each process calls with what arrives on *channels*.

        It works before `init_app` too. The function, *on_gap* and ``connect`` run in an application context.
        *options* are the others of `Broadcaster.on`, or with *log* of `EventLog.on`. The functions start by
        gunicorn's hook, or before the first request of a process that is monkey-patched. Elsewhere call
        ``broadcaster.start()``.
        """

        def note(function: Function) -> Function:
            each = _integration.noted(function, channels, log, on_gap, options)
            for site in [app.extensions["pglisten.site"] for app in self._apps]:
                if not site.broadcaster.closed:
                    site.on(each)
            self._noted.append(each)
            return function

        return note

    def _site(self) -> Site:
        app: Any = current_app
        found: Any = app._get_current_object() if has_app_context() else self._app
        if found not in self._apps:
            raise ConfigurationError(
                "no application with this extension: call init_app(app), and use it in app.app_context()"
            )
        site: Site = found.extensions["pglisten.site"]
        return site


def _url(app: Any) -> str:
    url = str(rendered(app.config.get(URI)))
    return url if url.startswith("postgres") else ""


def _command(app: Flask) -> click.Command:
    """Return ``flask pglisten``: pglisten's command line for the database of *app*. It gets a ``--`` too."""

    def run(arguments: tuple[str, ...]) -> None:
        config: Any = app.config
        dsn = config.get("PGLISTEN_DSN") or _url(app)  # not the environment's
        sys.exit(main(arguments, dsn=dsn, backend=config.get("PGLISTEN_BACKEND")))

    return click.Command(
        "pglisten",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
        add_help_option=False,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        callback=run,
        help="pglisten's command line, with this application's database.",
    )
