"""The socket that accepts browsers. gunicorn inherits it, so that its port is known beforehand."""

from __future__ import annotations

import socket
from ipaddress import ip_address

import gevent.socket

from ...errors import ConfigurationError

__all__ = ["is_loopback", "listen", "url"]

BACKLOG = 128
"""Connections that the kernel queues for the workers."""


def listen(host: str, port: int) -> gevent.socket.socket:
    """Return a socket that listens on *host* and *port* (0: any free port).

    Raises `ConfigurationError` if that is impossible.
    """
    try:
        family, kind, protocol, _, address = gevent.socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise ConfigurationError(
            f"--web-host {host!r} is no address of this machine: {error.strerror}"
        ) from None
    made = gevent.socket.socket(family, kind, protocol)
    try:
        # A port in TIME_WAIT can be used again at once.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(BACKLOG)
    except OSError as error:
        made.close()
        raise ConfigurationError(
            f"cannot listen on port {port} of {host!r} ({error.strerror}): "
            "choose another --web-port or --web-host"
        ) from None
    return made


def is_loopback(listener: gevent.socket.socket) -> bool:
    """Return whether only this machine can connect."""
    return ip_address(listener.getsockname()[0]).is_loopback


def url(listener: gevent.socket.socket) -> str:
    """Return the address to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
