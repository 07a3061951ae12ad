"""A bulletin, and a broadcaster on a server in memory that reports to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import Broadcaster
from pglisten._demo.web.bulletin import Bulletin
from pglisten.testing import FakeServer
from support.broadcasters import make_fake


@pytest.fixture
def bulletin() -> Bulletin:
    return Bulletin()


@pytest.fixture
def broadcaster(server: FakeServer, bulletin: Bulletin) -> Iterator[Broadcaster]:
    with make_fake(server, event_callback=bulletin.event) as made:
        bulletin.server_pid = lambda: made.stats().server_pid
        yield made
