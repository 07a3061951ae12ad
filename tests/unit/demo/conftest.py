"""A publisher, and a broadcaster on a server in memory that reports to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pglisten import Broadcaster
from pglisten._demo.web.state import StatePublisher
from pglisten.testing import FakeServer
from support.broadcasters import make_fake


@pytest.fixture
def publisher() -> StatePublisher:
    return StatePublisher()


@pytest.fixture
def broadcaster(server: FakeServer, publisher: StatePublisher) -> Iterator[Broadcaster]:
    with make_fake(server, event_callback=publisher.event) as made:
        yield made
