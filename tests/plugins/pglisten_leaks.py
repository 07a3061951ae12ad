"""After each live and contract test: as many greenlets, descriptors and server sessions as before."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import greenlet
import pytest

from pglisten_server import Server

SETTLE = 5.0
"""Seconds for a server to notice that its clients are gone, and for greenlets to die."""

SERVERS = ("server", "tls_server", "auth_server")
WATCHED = ("live", "contract")


def _mine(each: Any) -> bool:
    # Workers of gevent's threadpool and other threads' hubs come and go with the threads.
    mine = greenlet.getcurrent()
    while mine.parent is not None:
        mine = mine.parent
    while each.parent is not None:
        each = each.parent
    return each is mine


def greenlets() -> list[Any]:
    """The greenlets of this thread that have begun or will, and have not ended."""
    gc.collect()
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, greenlet.greenlet) and not each.dead and _mine(each)
    ]


def descriptors() -> dict[str, str]:
    """The open descriptors and what they are."""
    found = {}
    for number in os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the one that listing the folder took
    return found


def settle(measure: Callable[[], int], before: int) -> int:
    """Measure until it is as before or time is up, letting greenlets run meanwhile."""
    deadline = time.monotonic() + SETTLE
    while (now := measure()) > before and time.monotonic() < deadline:
        gevent.sleep(0.01)
    return now


@pytest.fixture(scope="session")
def warm_hub() -> None:
    """Have gevent open for itself what it opens at first use."""
    gevent.get_hub().threadpool.apply(int)
    gevent.get_hub().resolver.getaddrinfo("127.0.0.1", 0)


@pytest.fixture(scope="module")
def few_objects(warm_hub: None) -> None:
    """Set aside what is there by now: looked through twice for each test, it would take most of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    if not set(WATCHED) & {parent.name for parent in Path(request.node.path).parents}:
        yield
        return
    request.getfixturevalue("few_objects")
    servers: list[Server] = [
        request.getfixturevalue(name) for name in SERVERS if name in request.fixturenames
    ]
    sessions = [server.sessions() for server in servers]
    greenlets_before, descriptors_before = greenlets(), descriptors()
    known = {id(each) for each in greenlets_before}
    yield
    if settle(lambda: len(greenlets()), len(greenlets_before)) > len(greenlets_before):
        left = [each for each in greenlets() if id(each) not in known]
        pytest.fail(f"greenlets left: {left}", pytrace=False)
    if settle(lambda: len(descriptors()), len(descriptors_before)) > len(descriptors_before):
        opened = {
            number: what for number, what in descriptors().items() if descriptors_before.get(number) != what
        }
        pytest.fail(f"descriptors left: {opened}", pytrace=False)
    for server, before in zip(servers, sessions, strict=True):
        if settle(server.sessions, before) > before:
            pytest.fail(f"server sessions left: {server.sessions() - before} on {server}", pytrace=False)
