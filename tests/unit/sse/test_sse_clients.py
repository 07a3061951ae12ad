"""Real clients other than browsers: they get each event at once, and no other events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import gevent
import httpx
import httpx_sse
import pytest
import sseclient

from pglisten import Broadcaster, sse
from pglisten._sse.stream import HEARTBEAT
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT

Events: TypeAlias = Iterator[tuple[str, str]]
PAYLOADS = ["42", "", " leading space", "two\nlines\n", "\u2028 is no \x0b line \x85 break: \x1c", "\ufeffä"]


class Paced:
    """Middleware that sends the next payload after three heartbeats, and keeps the last chunk."""

    def __init__(self, app: Any, server: FakeServer) -> None:
        self._app = app
        self._server = server
        self.last = b""

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        body = self._app(environ, start_response)
        try:
            yield from self._paced(body)
        finally:
            body.close()

    def _paced(self, body: Iterator[bytes]) -> Iterator[bytes]:
        payloads = iter(PAYLOADS)
        heartbeats = 0
        for self.last in body:
            yield self.last
            heartbeats += self.last == HEARTBEAT
            if heartbeats == 3:
                heartbeats = 0
                if (payload := next(payloads, None)) is None:
                    return
                self._server.notify("orders", payload)


@pytest.fixture
def app() -> Iterator[Paced]:
    server = FakeServer()
    with Broadcaster("", backend=FakeBackend(server), min_reconnect_interval=0.001) as broadcaster:
        yield Paced(sse.app(broadcaster, lambda environ, channel: True, heartbeat=0.005), server)


def with_httpx_sse(client: httpx.Client, headers: dict[str, str]) -> Events:
    with httpx_sse.connect_sse(client, "GET", "/?channel=orders", headers=headers) as source:
        for event in source.iter_sse():
            yield event.event, event.data


def with_sseclient_py(client: httpx.Client, headers: dict[str, str]) -> Events:
    with client.stream("GET", "/?channel=orders", headers=headers) as response:
        for event in sseclient.SSEClient(response.iter_bytes()).events():
            yield event.event, event.data


@pytest.mark.parametrize("came_back", [False, True])
@pytest.mark.parametrize("receive", [with_httpx_sse, with_sseclient_py])
def test_each_event_comes_at_once_and_there_are_no_other_events(
    app: Paced, receive: Callable[[httpx.Client, dict[str, str]], Events], came_back: bool
) -> None:
    headers = {"Last-Event-ID": "x-1"} if came_back else {}
    received: list[tuple[str, str]] = []
    with (
        gevent.Timeout(TIMEOUT),
        httpx.Client(transport=httpx.WSGITransport(app=app), base_url="http://test") as client,
    ):
        for event in receive(client, headers):
            assert app.last.endswith(b"\n\n")  # The client did not wait for the next line.
            received.append(event)
    expected = [("orders", payload) for payload in PAYLOADS]
    assert received == ([("gap", "reconnected"), *expected] if came_back else expected)
