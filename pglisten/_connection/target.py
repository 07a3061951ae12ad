"""Where attempts to connect lead: a connection string, or a function that returns one for each attempt."""

from __future__ import annotations

import os
from collections.abc import Callable

import gevent

from .. import _options
from .._backends import load_backend
from .._conninfo import ConnInfo
from .._conninfo.urls import Dsn
from .._greenlet import spawn
from ..backend import Backend
from ..errors import ConfigurationError, ConnectionFailed, copy_for_raise, without_frames

__all__ = ["DsnFunction", "Target"]


class DsnFunction:
    """A function that returns a connection string for each attempt to connect.

    *check* is called with the settings, and raises `ConfigurationError` for those that cannot work.
    """

    def __init__(
        self, function: Callable[[], object], check: Callable[[ConnInfo], None] = lambda _: None
    ) -> None:
        self._function = function
        self._check = check

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return getattr(self._function, "__qualname__", type(self._function).__name__)

    def ask(self, timeout: float | None) -> ConnInfo:
        """Call the function in a greenlet of its own, and return the settings.

        Raises `ConnectionFailed`, with the function's error as its cause, if the function fails, or does not
        return within *timeout* seconds (``None``: no limit), or returns what cannot work.
        """
        # The answer stands in this list alone, not in a frame that an error would keep.
        answer: list[ConnInfo | BaseException] = []
        greenlet = spawn("pglisten-dsn", self._run, answer)
        try:
            greenlet.join(timeout)
            was_killed = greenlet.ready()
        finally:
            greenlet.kill(block=False)
        if not answer:
            why = "was killed" if was_killed else f"did not return within {timeout:g} s"
            raise ConnectionFailed(f"the dsn function {self.name} {why}")
        found = answer.pop()
        if isinstance(found, ConfigurationError):
            raise ConnectionFailed(f"the dsn function {self.name} returned what cannot work: {found}")
        if isinstance(found, BaseException):
            kind = type(found).__name__
            raise ConnectionFailed(f"the dsn function {self.name} failed: {kind}: {found}") from found
        return found

    def _run(self, answer: list[ConnInfo | BaseException]) -> None:
        try:
            answer.append(checked(self._function(), self._check))
        except (Exception, gevent.Timeout) as error:  # noqa: BLE001 - it is the attempt's failure
            # The frames may hold a password.
            answer.append(without_frames(error))


def checked(dsn: object, check: Callable[[ConnInfo], None]) -> ConnInfo | ConfigurationError:
    """Return the settings of *dsn*, or the error of the string or of *check* rather than raise it.

    The frames in its traceback and its context hold the environment, and passwords from any source.
    """
    try:
        conninfo = ConnInfo.parse(dsn, os.environ)
        check(conninfo)
    except ConfigurationError as error:
        return copy_for_raise(error)
    return conninfo


class Target:
    """*dsn* for *backend*, and the seconds that one attempt may take at each step.

    Raises `ConfigurationError` for what cannot work. What a function returns is looked at when it is called.
    """

    def __init__(self, dsn: Dsn, backend: str | Backend | None, connect_timeout: float | None) -> None:
        self.backend = backend if isinstance(backend, Backend) else load_backend(backend)
        self._timeout = _options.seconds("connect_timeout", connect_timeout, none_means="no limit")
        self._source: ConnInfo | DsnFunction
        if callable(dsn):
            self._source = DsnFunction(dsn, self._check)
            return
        found = checked(dsn, self._check)
        if isinstance(found, ConfigurationError):
            raise found
        self._source = found

    def __repr__(self) -> str:
        return f"<Target {self.description} backend={self.backend.name}>"

    @property
    def description(self) -> str:
        """Where it leads, for messages; the function's name if there is one."""
        source = self._source
        return f"{source.name}()" if isinstance(source, DsnFunction) else source.description

    def current(self) -> tuple[ConnInfo, float | None]:
        """Return the settings for one attempt, and its seconds (``None``: no limit).

        Raises `ConnectionFailed` if there is a function and it fails: see `DsnFunction.ask`.
        """
        source = self._source
        conninfo = source.ask(self._timeout) if isinstance(source, DsnFunction) else source
        return conninfo, conninfo.connect_timeout if conninfo.has_connect_timeout else self._timeout

    def _check(self, conninfo: ConnInfo) -> None:
        for host in conninfo.targets():
            self.backend.check(host)
