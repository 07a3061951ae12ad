"""Keepalive and timeout options of the socket: pglisten's defaults, and those of the connection string."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable

import pytest

import pglisten
from pglisten._connection.connect import dial
from pglisten.backend import ConnInfo
from support.fixtures.proxy import MakeProxy
from support.servers.server import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the options' names are Linux's")

DEFAULTS = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}


@pytest.fixture
def dialled(backend_name: str, proxy: MakeProxy, server: Server) -> Callable[..., tuple[int, dict[str, int]]]:
    """Dial with these keywords; return SO_KEEPALIVE and the options of TCP."""
    between = proxy(server)  # over TCP, even if the server is on a Unix socket

    def connect(**keywords: object) -> tuple[int, dict[str, int]]:
        dsn = server.dsn(host=between.host, port=between.port, **keywords)
        session = dial(pglisten.load_backend(backend_name), ConnInfo.parse(dsn, {}), 20)
        try:
            with socket.socket(fileno=os.dup(session.fileno())) as copy:
                return copy.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), {
                    name: copy.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in DEFAULTS
                }
        finally:
            session.close()

    return connect


def test_keepalive_and_user_timeout_are_on_by_default(
    dialled: Callable[..., tuple[int, dict[str, int]]],
) -> None:
    assert dialled() == (1, DEFAULTS)


def test_the_connection_string_goes_before_the_defaults(
    dialled: Callable[..., tuple[int, dict[str, int]]],
) -> None:
    keepalive, options = dialled(
        keepalives_idle=7, keepalives_interval=5, keepalives_count=4, tcp_user_timeout=12_345
    )
    assert keepalive == 1
    assert options == {
        "TCP_KEEPIDLE": 7,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 4,
        "TCP_USER_TIMEOUT": 12_345,
    }


def test_both_can_be_turned_off(dialled: Callable[..., tuple[int, dict[str, int]]]) -> None:
    keepalive, options = dialled(keepalives=0, tcp_user_timeout=0)
    assert keepalive == 0
    assert options["TCP_USER_TIMEOUT"] == 0
