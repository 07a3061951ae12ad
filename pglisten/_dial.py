"""From a connection string to a session: resolve the name, then try each address in turn."""

from __future__ import annotations

import gevent
from gevent import socket

from ._conninfo import ConnInfo
from .backend import Backend, Session
from .errors import ConnectionFailed


def dial(backend: Backend, conninfo: ConnInfo, timeout: float | None) -> Session:
    """Return a session with the first address that gives one.

    *timeout* is seconds for each address, and for the name's resolution (``None``: no limit). Raises the
    last address's `ConnectionFailed`.
    """
    failure: ConnectionFailed | None = None
    for target in resolve(conninfo, timeout):
        try:
            return backend.connect(target, timeout)
        except ConnectionFailed as error:
            failure = error
            if error.sqlstate is not None:
                # A server answered: its other addresses would say the same.
                break
    assert failure is not None, "a name resolves to an address or raises"
    raise failure


def resolve(conninfo: ConnInfo, timeout: float | None) -> list[ConnInfo]:
    """Return *conninfo* once for each address of its host; itself where there is nothing to resolve.

    gevent resolves, in a thread or with its own resolver: libpq would hold up the hub.
    """
    if conninfo.is_unix or conninfo.hostaddr:
        return [conninfo]
    limit = gevent.Timeout(timeout)
    try:
        with limit:
            found = socket.getaddrinfo(conninfo.host, conninfo.port, type=socket.SOCK_STREAM)
    except gevent.Timeout as expired:
        if expired is not limit:
            raise  # Somebody else's ran out in this greenlet.
        raise ConnectionFailed(f"host name {conninfo.host!r} was not resolved within {timeout:g} s") from None
    except (OSError, UnicodeError) as error:
        raise ConnectionFailed(f"host name {conninfo.host!r} does not resolve: {error}") from error
    addresses = dict.fromkeys(str(address[4][0]) for address in found)
    return [conninfo.at(address) for address in addresses]
