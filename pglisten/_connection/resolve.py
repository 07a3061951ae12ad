"""Resolves host names without blocking the hub."""

from __future__ import annotations

import socket as numbers  # Constants only: monkey-patching may have put gevent's functions into it.
from collections.abc import Callable
from typing import Any, TypeAlias

import gevent
from gevent import monkey, socket

from .._conninfo import ConnInfo
from .._conninfo.checks import is_numeric
from .._threads import in_thread
from ..errors import ConnectionFailed

__all__ = ["resolve"]

getaddrinfo: Callable[..., list[Any]] = monkey.get_original("socket", "getaddrinfo")
"""The system's function, which blocks its thread."""

_Answer: TypeAlias = "list[Any] | Exception | None"


def resolve(conninfo: ConnInfo, timeout: float | None) -> list[ConnInfo]:
    """Return *conninfo* once for each address of its host; as it is if there is no name to resolve.

    The name is resolved by the system in a thread, or by the resolver that the application chose for gevent;
    libpq would block the hub. Raises `ConnectionFailed`, also after *timeout* seconds (``None``: no limit).
    After that, the thread runs until the system's resolver ends.
    """
    if conninfo.is_unix or conninfo.hostaddr:
        return [conninfo]
    if is_numeric(conninfo.host):
        return [conninfo.at(conninfo.host)]
    found = _look_up(conninfo.host, conninfo.port, timeout)
    if found is None:
        raise ConnectionFailed(f"host name {conninfo.host!r} was not resolved within {timeout:g} s")
    if isinstance(found, Exception):
        raise ConnectionFailed(f"host name {conninfo.host!r} does not resolve: {found}") from found
    addresses = dict.fromkeys(str(address[4][0]) for address in found)
    return [conninfo.at(address) for address in addresses]


def _look_up(host: str, port: int, timeout: float | None) -> _Answer:
    """Return the addresses, or the error; ``None`` after *timeout* seconds."""
    try:
        resolver: Any = gevent.get_hub().resolver
    except OSError as error:  # gevent makes it at first use, and it may read files.
        return error
    kind: Any = resolver.__class__
    # By name: ddtrace, loaded into a patched process, imports gevent's modules a second time.
    if (kind.__module__, kind.__name__) != ("gevent.resolver.thread", "Resolver"):
        return _ask_gevent(host, port, timeout)
    # gevent's default resolver would wait for a thread of gevent's pool: see `in_thread`.
    done = in_thread(lambda: _ask(getaddrinfo, host, port), timeout)
    if done is None:
        return None
    try:
        return done.get()
    except OSError as error:  # There is no thread.
        return error


def _ask_gevent(host: str, port: int, timeout: float | None) -> _Answer:
    limit = gevent.Timeout(timeout)
    try:
        with limit:
            return _ask(socket.getaddrinfo, host, port)
    except gevent.Timeout as expired:
        if expired is not limit:
            raise  # It is a timeout of the caller's.
        return None


def _ask(ask: Callable[..., list[Any]], host: str, port: int) -> list[Any] | Exception:
    try:
        return ask(host, port, type=numbers.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return error
