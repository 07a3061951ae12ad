"""Check the demo's command line before anything is started."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from .._backends import available_backends, load_backend
from .._connection.target import Target
from ..errors import ConfigurationError
from . import terminal
from .screen import Screen
from .web import show as web

__all__ = ["Plan", "plan"]

TERMINAL_SECONDS = 15.0
"""Default length of the demo in the terminal."""


@dataclass(frozen=True)
class Plan:
    """A demo that is ready to run."""

    backends: tuple[str, ...]
    """Names of the backends that it shows."""
    perform: Callable[[Screen], None]
    """Runs the demo until its end, or until its greenlet is killed."""


def plan(arguments: argparse.Namespace) -> Plan:
    """Return the demo that *arguments* ask for. Raises `ConfigurationError` if it is impossible."""
    given: str | None = arguments.backend
    names = available_backends() if given is None else (load_backend(given).name,)
    if not names:
        load_backend()  # raises an error that says what to install
    dsn: str | None = arguments.dsn
    if dsn is None and arguments.log:
        raise ConfigurationError("--log is for a server of yours: the private one has an event log anyway")
    if dsn is not None:
        for name in names:
            Target(dsn, name, None)
    return Plan(names, (_in_terminal if arguments.terminal else _on_web)(arguments, names, dsn))


def _in_terminal(
    arguments: argparse.Namespace, names: tuple[str, ...], dsn: str | None
) -> Callable[[Screen], None]:
    for option in ("web-host", "web-port", "workers"):
        if getattr(arguments, option.replace("-", "_")) is not None:
            raise ConfigurationError(f"--{option} is for the web page: leave it out, or leave out --terminal")
    seconds: float = TERMINAL_SECONDS if arguments.seconds is None else arguments.seconds
    log: bool = arguments.log
    return lambda screen: terminal.perform(screen, names, dsn=dsn, log=log, seconds=seconds)


def _on_web(
    arguments: argparse.Namespace, names: tuple[str, ...], dsn: str | None
) -> Callable[[Screen], None]:
    for needed in ("gunicorn", "packaging"):
        if importlib.util.find_spec(needed) is None:
            raise ConfigurationError(
                f"the demo's web page needs {needed}, which is not installed: "
                "run pip install 'pglisten[demo]', or see pglisten demo --terminal"
            )
    asked = {"host": arguments.web_host, "port": arguments.web_port, "workers": arguments.workers}
    place = web.Place(**{name: value for name, value in asked.items() if value is not None})
    log: bool = arguments.log
    return lambda screen: web.perform(screen, names, dsn=dsn, log=log, place=place, seconds=arguments.seconds)
