"""Listeners and connections for live tests, each on every backend, and what to watch them with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import gevent
import pytest
from gevent.event import Event

from pglisten import Listener, ListenerConnection, ListenerEvent
from pglisten_servers import Server

MakeListener: TypeAlias = Callable[..., Listener]
MakeConnection: TypeAlias = Callable[..., ListenerConnection]


class Events(list[tuple[ListenerEvent, "Exception | None"]]):
    """Records an event callback's calls and lets a test wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = Event()

    def __call__(self, event: ListenerEvent, error: Exception | None) -> None:
        self.append((event, error))
        self._arrived.set()

    def wait_for(self, *names: str) -> None:
        """Wait until the last calls were these."""
        with gevent.Timeout(20):
            while self.names[-len(names) :] != list(names):
                self._arrived.clear()
                self._arrived.wait()

    @property
    def names(self) -> list[str]:
        return [event.name for event, _ in self]


def fence(listener: Listener | ListenerConnection, channel: str) -> None:
    """Assert that nothing is queued before a notification that is sent now."""
    listener.notify(channel, "fence", timeout=20)
    item = listener.get(timeout=20)
    assert item is not None
    assert (item.channel, item.payload) == (channel, "fence")


def succeeds(program: str, *arguments: str) -> None:
    """Run a program whose last line is "well" if all is, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["well"]), done.stderr


@pytest.fixture
def make_listener(server: Server, backend_name: str) -> Iterator[MakeListener]:
    """Return a function that makes a listener, on the session's server unless told otherwise."""
    made: list[Listener] = []

    def make(dsn: str | None = None, **options: object) -> Listener:
        options.setdefault("min_reconnect_interval", 0.02)
        listener = Listener(server.dsn() if dsn is None else dsn, backend=backend_name, **options)  # type: ignore[arg-type]
        made.append(listener)
        return listener

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def listener(make_listener: MakeListener) -> Listener:
    """Return a connected listener.

    With an hour between attempts, as in lib/pq's tests, any sleep before a reconnection fails the test.
    """
    made = make_listener(min_reconnect_interval=3600.0, max_reconnect_interval=3600.0)
    made.wait_connected(20)
    return made


@pytest.fixture
def make_connection(server: Server, backend_name: str) -> Iterator[MakeConnection]:
    """Return a function that makes a connection, to the session's server unless told otherwise."""
    made: list[ListenerConnection] = []

    def make(dsn: str | None = None, **options: object) -> ListenerConnection:
        connection = ListenerConnection(
            server.dsn() if dsn is None else dsn,
            backend=backend_name,
            **options,  # type: ignore[arg-type]
        )
        made.append(connection)
        return connection

    yield make
    for connection in made:
        connection.close()


@pytest.fixture
def connection(make_connection: MakeConnection) -> ListenerConnection:
    """Return a connection to the session's server."""
    return make_connection()
