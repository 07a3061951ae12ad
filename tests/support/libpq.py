"""libpq itself, as drivers link it: what it reads from a connection string.

No server is needed: libpq knows its settings and its password before it connects.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psycopg2
from psycopg import pq
from psycopg2.extensions import libpq_version

from support.fixtures.environment import leave_out

RECENT = 160000
"""The first libpq with ``sslrootcert=system`` and ``load_balance_hosts``."""


class _Option(ctypes.Structure):
    """``PQconninfoOption`` in libpq-fe.h."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    ]


class Keyword(NamedTuple):
    variable: str | None
    default: str | None
    shown: str
    """How a dialog shows the value: ``*`` hides it, ``D`` leaves the keyword out."""


class Completion(NamedTuple):
    """What libpq would do: with which settings, or why not."""

    values: dict[str, str]
    password: str
    error: str


def _psycopgs() -> str:
    module: Any = sys.modules[pq.PGconn.__module__]
    return str(module.impl.pq._name if pq.__impl__ == "python" else module.__file__)


LIBRARIES = {"psycopg2": lambda: str(psycopg2._psycopg.__file__), "psycopg": _psycopgs}
"""By driver, the path of the library through which its libpq is reached."""


class Libpq:
    """The functions of libpq that the tests use, from the one that *driver* uses."""

    def __init__(self, driver: str = "psycopg2") -> None:
        self.version: int = libpq_version() if driver == "psycopg2" else pq.version()
        if self.version < RECENT:
            leave_out("libpq", f"libpq {self.version // 10000} lacks keywords that are compared")
        try:
            # Looking a symbol up in the extension module also searches what that is linked to.
            self._library: Any = ctypes.PyDLL(LIBRARIES[driver]())
            for name, result in (
                ("PQconndefaults", ctypes.POINTER(_Option)),
                ("PQconninfo", ctypes.POINTER(_Option)),
                ("PQconnectStart", ctypes.c_void_p),
                ("PQpass", ctypes.c_char_p),
                ("PQerrorMessage", ctypes.c_char_p),
            ):
                getattr(self._library, name).restype = result
        except (AttributeError, OSError) as error:
            leave_out("libpq", f"libpq's functions cannot be reached through {driver}: {error}")
        for name in ("PQconninfo", "PQpass", "PQerrorMessage", "PQfinish", "PQconninfoFree"):
            getattr(self._library, name).argtypes = [ctypes.c_void_p]

    def keywords(self) -> dict[str, Keyword]:
        """Its table of keywords."""
        options = self._library.PQconndefaults()
        try:
            return {
                _text(option.keyword): Keyword(
                    _text(option.envvar) or None, _text(option.compiled) or None, _text(option.dispchar)
                )
                for option in _until_null(options)
            }
        finally:
            self._library.PQconninfoFree(options)

    def read(self, dsn: str) -> Completion:
        """Begin a connection, and end it at once."""
        conn = self._library.PQconnectStart(dsn.encode())
        try:
            options = self._library.PQconninfo(conn)
            values = {_text(option.keyword): _text(option.val) for option in _until_null(options)}
            self._library.PQconninfoFree(options)
            return Completion(
                values, _text(self._library.PQpass(conn)), _text(self._library.PQerrorMessage(conn)).strip()
            )
        finally:
            self._library.PQfinish(conn)


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Give this process, and so libpq, no environment variables except *variables* for a while."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _until_null(options: Any) -> Iterator[_Option]:
    at = 0
    while options and options[at].keyword:
        yield options[at]
        at += 1


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "surrogateescape")
