"""Where attempts to connect lead: a connection string, or a function that returns one for each attempt."""

from __future__ import annotations

import os
from typing import Any

from .. import _options
from .._backends import load_backend
from .._conninfo import ConnInfo
from .._conninfo.urls import Dsn
from .._greenlet import spawn
from ..backend import Backend
from ..errors import ConfigurationError, ConnectionFailed, copy_for_raise

__all__ = ["Target"]


class Target:
    """*dsn* for *backend*, and the seconds that one attempt may take at each step.

    Raises `ConfigurationError` for what cannot work. What a function returns is looked at when it is called.
    """

    def __init__(self, dsn: Dsn, backend: str | Backend | None, connect_timeout: float | None) -> None:
        self.backend = backend if isinstance(backend, Backend) else load_backend(backend)
        self._function: Any = dsn if callable(dsn) else None
        self._timeout = _options.seconds("connect_timeout", connect_timeout, none_means="no limit")
        self._fixed = None
        if self._function is None:
            found = self._checked(dsn)
            if isinstance(found, ConfigurationError):
                raise found
            self._fixed = found

    def __repr__(self) -> str:
        return f"<Target {self.description} backend={self.backend.name}>"

    @property
    def description(self) -> str:
        """Where it leads, for messages; the function's name if there is one."""
        return f"{self._name}()" if self._fixed is None else self._fixed.description

    def current(self) -> tuple[ConnInfo, float | None]:
        """Return the settings for one attempt, and its seconds (``None``: no limit).

        A function is called in a greenlet of its own. Raises `ConnectionFailed`, with the function's error as
        its cause, if it fails, or does not return within ``connect_timeout``, or returns what cannot work.
        """
        conninfo = self._fixed or self._asked()
        return conninfo, conninfo.connect_timeout if conninfo.has_connect_timeout else self._timeout

    @property
    def _name(self) -> str:
        return getattr(self._function, "__qualname__", type(self._function).__name__)

    def _asked(self) -> ConnInfo:
        # The answer stands in this list alone, not in a frame that an error would keep.
        answer: list[ConnInfo | Exception] = []
        greenlet = spawn("pglisten-dsn", self._ask, answer)
        try:
            greenlet.join(self._timeout)
        finally:
            greenlet.kill(block=False)
        if not answer:
            raise ConnectionFailed(f"the dsn function {self._name} did not return within {self._timeout:g} s")
        found = answer.pop()
        if isinstance(found, ConfigurationError):
            raise ConnectionFailed(f"the dsn function {self._name} returned what cannot work: {found}")
        if isinstance(found, Exception):
            kind = type(found).__name__
            raise ConnectionFailed(f"the dsn function {self._name} failed: {kind}: {found}") from found
        return found

    def _ask(self, answer: list[ConnInfo | Exception]) -> None:
        try:
            answer.append(self._checked(self._function()))
        except Exception as error:  # noqa: BLE001 - it is the attempt's failure
            answer.append(_without_frames(error))

    def _checked(self, dsn: object) -> ConnInfo | ConfigurationError:
        """Return the error rather than raise it.

        The frames in its traceback and its context hold the environment, and passwords from any source.
        """
        try:
            conninfo = ConnInfo.parse(dsn, os.environ)
            for host in conninfo.targets():
                self.backend.check(host)
        except ConfigurationError as error:
            return copy_for_raise(error)
        return conninfo


def _without_frames(error: Exception) -> Exception:
    """Drop the frames of *error* and of what led to it: they may hold a password."""
    each: BaseException | None = error
    while each is not None:
        each = each.with_traceback(None).__cause__ or each.__context__
    return error
