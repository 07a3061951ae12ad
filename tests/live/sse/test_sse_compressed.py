"""Event streams behind middleware that compresses: each event arrives before the next is sent."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fixtures.programs import LIMIT, StartProgram
from support.programs.event_source import EventSource
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs]

PROGRAM = (Path(__file__).parents[1] / "applications" / "compressed.py").read_text()
ACCEPT = {"Accept-Encoding": "gzip, deflate, br, zstd"}
"""The header that browsers send."""


@pytest.fixture
def port(start_program: StartProgram, server: Server, backend_name: str) -> int:
    return int(start_program(PROGRAM, env=server.variables(PGLISTEN_BACKEND=backend_name)).line())


@contextlib.contextmanager
def opened(port: int, target: str) -> Iterator[EventSource]:
    source = EventSource(port, target, ACCEPT)
    try:
        source.wait_open()
        yield source
    finally:
        source.close()


@pytest.mark.parametrize(
    ("page", "events"),
    [
        ("django/page", "django/events"),
        ("django-whitenoise/page", "django-whitenoise/events"),
        ("django-decorator/decorated-page", "django-decorator/decorated-events"),
        ("flask-compress/page", "flask-compress/events"),
        ("flask-compress-whitenoise/page", "flask-compress-whitenoise/events"),
    ],
)
def test_middleware_that_compresses_pages_leaves_streams_alone(
    server: Server, port: int, page: str, events: str
) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)) as connection:
        connection.request("GET", f"/{page}", headers=ACCEPT)
        assert connection.getresponse().getheader("Content-Encoding") in {"gzip", "br", "zstd"}
    with opened(port, f"/{events}") as source:
        for number in range(3):
            server.notify("orders", str(number))
            source.wait_data(str(number))
        assert source.response_headers["content-encoding"] == "identity"
