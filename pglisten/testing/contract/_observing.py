"""How the suite waits for a session, queries it, and observes the process."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Generator
from types import TracebackType
from typing import ParamSpec, TypeVar

import gevent
from gevent import socket

from ..._sql import quote_identifier
from ...backend import Backend, ConnInfo, Notification, Session
from ...errors import ConnectionFailed, ConnectionLost

__all__ = [
    "PATIENCE",
    "SHORT",
    "Ticker",
    "addresses",
    "answer",
    "at_server",
    "background",
    "connect_to",
    "descriptors",
    "drain",
    "every_descriptor_returned",
    "listen",
    "notify",
    "until_lost",
    "wait_for_notifications",
    "wait_readable",
    "wait_until",
]

PATIENCE = 15.0
"""Seconds to wait for what must happen; only a failing test waits so long, even on a loaded machine."""

SHORT = 0.3
"""Seconds of a timeout that must pass: short for fast tests, but long compared to a turn of the hub."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


def addresses(conninfo: ConnInfo) -> list[ConnInfo]:
    """Return *conninfo* with each numeric address of its host, in the resolver's order."""
    if conninfo.is_unix or conninfo.hostaddr:
        return [conninfo]
    found = socket.getaddrinfo(conninfo.host, conninfo.port, type=socket.SOCK_STREAM)
    return [conninfo.at(str(address[0])) for *_, address in found]


def connect_to(backend: Backend, conninfo: ConnInfo, timeout: float | None = PATIENCE) -> Session:
    """Return a session with the first address that accepts one, or raise the last `ConnectionFailed`."""
    *others, last = addresses(conninfo)
    for candidate in others:
        with contextlib.suppress(ConnectionFailed):
            return backend.connect(candidate, timeout)
    return backend.connect(last, timeout)


def listen(session: Session, *channels: str) -> None:
    """Listen to *channels* in one query."""
    session.execute("; ".join(f"LISTEN {quote_identifier(channel)}" for channel in channels), PATIENCE)


def notify(session: Session, channel: str, *payloads: str) -> None:
    """Send *payloads* in one query, that is, in one transaction."""
    target = quote_identifier(channel)
    literals = ("'" + payload.replace("'", "''") + "'" for payload in payloads or ("",))
    session.execute("; ".join(f"NOTIFY {target}, {literal}" for literal in literals), PATIENCE)


def answer(session: Session, expression: str) -> str:
    """Return the value of an SQL *expression*, which must be text and not NULL."""
    ((value,),) = session.fetch(f"SELECT {expression}", PATIENCE)
    assert value is not None
    return value


def at_server(observer: Session, session: Session) -> bool:
    """Return whether the server still has *session*, according to *observer*."""
    count = f"(SELECT count(*) FROM pg_stat_activity WHERE pid = {session.pid:d})::text"  # noqa: S608
    return answer(observer, count) == "1"


def background(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> gevent.Greenlet[_P, _T]:
    """Spawn *function*; the test waits for it or kills it."""
    greenlet = gevent.Greenlet(function, *args, **kwargs)  # typed, which gevent.spawn is not
    greenlet.start()
    return greenlet


def drain(session: Session) -> list[Notification]:
    """Receive until nothing more has arrived, as a reader does before it waits."""
    received: list[Notification] = []
    while more := session.receive():
        received += more
    return received


def wait_readable(session: Session, timeout: float = PATIENCE) -> None:
    """Wait for the session's descriptor. Raises `TimeoutError` after *timeout* seconds."""
    socket.wait_read(session.fileno(), timeout, TimeoutError("nothing arrived"))


def wait_for_notifications(session: Session, count: int, timeout: float = PATIENCE) -> list[Notification]:
    """Receive until *count* notifications have arrived; wait only when nothing has arrived.

    May return more. Raises `TimeoutError` after *timeout* seconds, which says how many came.
    """
    deadline = time.monotonic() + timeout
    received = drain(session)
    while len(received) < count:
        late = TimeoutError(f"{len(received)} of {count} notifications came within {timeout} s")
        socket.wait_read(session.fileno(), max(0.0, deadline - time.monotonic()), late)
        received += drain(session)
    return received


def until_lost(session: Session, timeout: float = PATIENCE) -> tuple[list[Notification], ConnectionLost]:
    """Receive and wait until `receive` raises; return what came before, and the error."""
    deadline = time.monotonic() + timeout
    received: list[Notification] = []
    while True:
        try:
            while more := session.receive():
                received += more
        except ConnectionLost as error:
            return received, error
        wait_readable(session, max(0.0, deadline - time.monotonic()))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something remote that nothing announces; `AssertionError` naming *what* if it never comes."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        gevent.sleep(0.005)


def descriptors() -> int:
    """Return how many descriptors this process has open, plus one that counting needs."""
    return len(os.listdir("/dev/fd"))


@contextlib.contextmanager
def every_descriptor_returned() -> Generator[None, None, None]:
    """Fail if more descriptors are open after the block than before it.

    gevent closes a socket that a greenlet waited for only in the next turn of the hub.
    """
    before = descriptors()
    yield
    wait_until(lambda: descriptors() <= before, "as many open descriptors as before")


class Ticker:
    """A greenlet that counts while the block runs: few ticks mean that something blocked the hub."""

    PERIOD = 0.005
    """Seconds between two ticks."""

    def __init__(self) -> None:
        self.count = 0
        self._greenlet: gevent.Greenlet[[], None] | None = None

    def __enter__(self) -> Ticker:
        self._greenlet = gevent.spawn(self._tick)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._greenlet is not None
        self._greenlet.kill()

    def assert_ran(self, seconds: float) -> None:
        """Assert at least a tenth of the ticks possible in *seconds*; a blocked hub allows one or two."""
        assert self.count >= seconds / self.PERIOD / 10, (
            f"the hub was blocked: {self.count} ticks in {seconds} s"
        )

    def _tick(self) -> None:
        while True:
            self.count += 1
            gevent.sleep(self.PERIOD)
