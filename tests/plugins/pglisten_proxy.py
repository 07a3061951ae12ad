"""The fixture ``proxy``: makes proxies, and closes them after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pglisten.testing._proxy import Proxy
from pglisten_server import Server


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """Make a proxy before a server: ``proxy(server)`` or ``proxy((host, port))``."""
    made: list[Proxy] = []

    def make(server: Server | tuple[str, int]) -> Proxy:
        made.append(Proxy(server.address if isinstance(server, Server) else server))
        return made[-1]

    yield make
    for each in made:
        each.close()
