"""The places that a connection string names, by the rules of ``pqConnectOptions2`` in libpq 17.

``host``, ``hostaddr`` and ``port`` are lists with commas between the elements. An empty host means the
default directory, an empty port 5432, and for an empty address the host is resolved.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ..errors import ConfigurationError
from .checks import integer

__all__ = ["PLACE_KEYWORDS", "Place", "default_host", "read_places", "write_places"]

PLACE_KEYWORDS = ("host", "hostaddr", "port")
"""The keywords that make a `Place`; each is a list."""

DEFAULT_PORT = 5432
"""PostgreSQL's registered port (DEF_PGPORT)."""

SOCKET_DIRECTORIES = ("/var/run/postgresql", "/tmp")  # noqa: S108 - no file is made there
"""Directories of the Unix socket: that of Debian's and psycopg2-binary's libpq, then PostgreSQL's default."""

MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket, in bytes, on Linux (unix(7)); libpq refuses longer ones too."""


class Place(NamedTuple):
    """One place to connect to."""

    host: str
    """Name, address, or directory of the Unix socket; ``""`` if only the address was given."""
    hostaddr: str
    """Numeric address; ``""`` if ``host`` is a name not yet resolved, or a directory."""
    port: int

    @property
    def is_unix(self) -> bool:
        return self.host.startswith(("/", "@")) and not self.hostaddr

    @property
    def socket_path(self) -> str:
        """The Unix socket's address for ``socket.connect``.

        One of the abstract namespace, which libpq writes with ``@`` in front, begins with NUL.
        """
        path = f"{self.host}/.s.PGSQL.{self.port}"
        return "\0" + path[1:] if path.startswith("@") else path

    @property
    def name_in_passfile(self) -> str:
        """The name in a password file: the host, or the address if there is no host."""
        return "localhost" if self.host == default_host() else self.host or self.hostaddr

    @property
    def name(self) -> str:
        """``db:5432``, with brackets around an IPv6 address."""
        host = self.host or self.hostaddr
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"


def read_places(values: Mapping[str, str]) -> tuple[Place, ...]:
    """Return the places that *values* name, in their order; there is at least one.

    Raises `ConfigurationError` if the lists do not fit together, or the path of a Unix socket is too long.
    """
    hosts, addresses, ports = (_elements(values.get(keyword, "")) for keyword in PLACE_KEYWORDS)
    count = len(addresses or hosts or [""])
    if hosts and len(hosts) != count:
        raise ConfigurationError(
            f"host and hostaddr differ in length, {len(hosts)} and {count}: give each host its address, "
            "an empty one between the commas if it has none"
        )
    if len(ports) > 1 and len(ports) != count:
        raise ConfigurationError(
            f"port and hosts differ in length, {len(ports)} and {count}: "
            "give one port for all, or one for each host"
        )
    if len(ports) <= 1:
        ports = (ports or [""]) * count
    found = tuple(map(_place, hosts or [""] * count, addresses or [""] * count, ports))
    for place in found:
        _check_socket_path(place)
    return found


def write_places(places: tuple[Place, ...]) -> dict[str, str]:
    """Return *places* as keywords for `read_places`, with the defaults filled in."""
    return {
        "host": _list([place.host for place in places]),
        "hostaddr": _list([place.hostaddr for place in places]),
        "port": _list([str(place.port) for place in places]),
    }


def default_host() -> str:
    """Return the directory of the Unix socket for a connection string without a host."""
    return next(filter(os.path.isdir, SOCKET_DIRECTORIES), SOCKET_DIRECTORIES[-1])


def _check_socket_path(place: Place) -> None:
    length = len(place.socket_path.encode()) if place.is_unix else 0
    if length > MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"host is a directory whose Unix socket has a path of {length} bytes, "
            f"over the {MAX_SOCKET_PATH} that the system takes: use a directory with a shorter path"
        )


def _place(host: str, hostaddr: str, port: str) -> Place:
    return Place(host or ("" if hostaddr else default_host()), hostaddr, integer(port) or DEFAULT_PORT)


def _elements(text: str) -> list[str]:
    return text.split(",") if text else []


def _list(elements: list[str]) -> str:
    """Join *elements* with commas; return ``""`` if all are empty."""
    return ",".join(elements) if any(elements) else ""
