"""Fixtures for the tests of event streams: a broadcaster on a server in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pglisten import Broadcaster, Subscription
from pglisten._sse.registry import streams
from pglisten.testing import FakeBackend, FakeServer
from support.programs.wsgi import WsgiClient


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def broadcaster(server: FakeServer) -> Iterator[Broadcaster]:
    with Broadcaster("", backend=FakeBackend(server), min_reconnect_interval=0.001) as made:
        yield made


@pytest.fixture
def subscription(broadcaster: Broadcaster) -> Subscription:
    return broadcaster.subscribe("orders")


@pytest.fixture
def unsubscribed(broadcaster: Broadcaster) -> Callable[[], bool]:
    """Return a function that tells whether the broadcaster has no subscription left."""
    return lambda: broadcaster.stats().subscriptions == 0 and broadcaster.channels == frozenset()


@pytest.fixture
def client() -> Iterator[WsgiClient]:
    made = WsgiClient()
    yield made
    made.close()


@pytest.fixture
def stopping() -> Iterator[None]:
    """Let the test end the process's streams."""
    yield
    streams.reset()


@pytest.fixture
def capacity() -> Iterator[None]:
    """Let the test limit the process's streams."""
    yield
    streams.capacity = None
