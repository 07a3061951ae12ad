"""A server in memory, and a broadcaster on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import Broadcaster
from pglisten.testing import FakeServer
from support.broadcasters import make_fake


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def broadcaster(server: FakeServer) -> Iterator[Broadcaster]:
    with make_fake(server) as made:
        yield made
