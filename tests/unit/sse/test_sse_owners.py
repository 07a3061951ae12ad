"""Streams of owners: how many one may have, and their end when the owner's rights change."""

from __future__ import annotations

import gc
from typing import Any

import gevent
import pytest

from pglisten import Broadcaster, ConfigurationError, NotConnected, ServerError, sse
from pglisten._sse.form import CONTROL_CHANNEL
from pglisten._sse.registry import streams
from pglisten.testing import FakeBackend, FakeServer
from support.programs.event_source import parse
from support.programs.wsgi import WsgiClient, anyone
from support.timeouts import TIMEOUT


def user(environ: dict[str, Any]) -> str | None:
    name = environ.get("HTTP_COOKIE")
    return name if isinstance(name, str) else None


def iterate(body: Any) -> gevent.Greenlet[..., bytes]:
    """Read *body* to its end, in a greenlet that has begun to wait."""
    next(iter(body))
    reading = gevent.spawn(b"".join, body)
    gevent.idle()
    return reading


def test_end_streams_ends_those_of_one_owner_in_all_processes(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    # Another broadcaster on the same server is what another process has.
    with Broadcaster("", backend=FakeBackend(server)) as elsewhere:
        apps = [sse.app(each, anyone, owner=user) for each in (broadcaster, elsewhere)]
        ann = [iterate(client.ask(app, HTTP_COOKIE="ann").body) for app in apps]
        bob = [iterate(client.ask(app, HTTP_COOKIE="bob").body) for app in apps]
        anonymous = [iterate(client.ask(app).body) for app in apps]
        sse.end_streams("ann", broadcaster, timeout=TIMEOUT)
        gevent.joinall(ann, timeout=TIMEOUT, raise_error=True)
        assert [reading.value for reading in ann] == [b"", b""]
        assert not any(reading.dead for reading in (*bob, *anonymous))


def test_a_revocation_discards_what_is_queued(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    body = client.ask(sse.app(broadcaster, anyone, owner=user), HTTP_COOKIE="ann").body
    next(iter(body))
    other = broadcaster.subscribe("fence")
    server.notify("orders", "secret")
    sse.end_streams("ann", broadcaster, timeout=TIMEOUT)
    server.notify("fence", "")
    other.get(TIMEOUT)
    gevent.idle()
    assert b"".join(body) == b""


def test_a_revocation_during_the_check_of_rights_ends_the_stream_at_once(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    def slow(environ: dict[str, Any], channel: str) -> bool:
        sse.end_streams("ann", broadcaster, timeout=TIMEOUT)
        gevent.idle()
        return True

    response = client.ask(sse.app(broadcaster, slow, owner=user), HTTP_COOKIE="ann")
    # 200 and an end: the browser comes back, and is authorised again.
    assert response.status == "200 OK"
    assert response.text() == ""
    assert broadcaster.channels == {CONTROL_CHANNEL}


def test_after_a_loss_all_streams_with_an_owner_end_and_the_page_gets_one_gap(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(broadcaster, anyone, owner=user)
    owned = [iterate(client.ask(app, HTTP_COOKIE=name).body) for name in ("ann", "bob")]
    free = iterate(client.ask(app).body)
    server.cut()
    gevent.joinall(owned, timeout=TIMEOUT, raise_error=True)
    assert [reading.value for reading in owned] == [b"", b""]  # The gap comes with the reconnection.
    assert not free.dead
    assert parse(next(iter(client.ask(app, HTTP_COOKIE="ann", HTTP_LAST_EVENT_ID="x").body))).events


def test_if_revocations_are_not_heard_any_more_the_streams_end_and_new_ones_hear_them(
    server: FakeServer, broadcaster: Broadcaster, client: WsgiClient, caplog: pytest.LogCaptureFixture
) -> None:
    app = sse.app(broadcaster, anyone, owner=user)
    owned = iterate(client.ask(app, HTTP_COOKIE="ann").body)
    server.refuse_listen[CONTROL_CHANNEL] = ServerError("no such character", sqlstate="22P05")
    server.cut()
    owned.get(timeout=TIMEOUT)
    assert "revocations are not heard" in caplog.text
    assert client.ask(app, HTTP_COOKIE="ann").status == "503 Service Unavailable"
    del server.refuse_listen[CONTROL_CHANNEL]
    owned = iterate(client.ask(app, HTTP_COOKIE="ann").body)
    # Not isinstance: it would ask proxies, such as Django's settings, for their class.
    greenlets = [each for each in gc.get_objects() if issubclass(type(each), gevent.Greenlet)]
    (listening,) = [each for each in greenlets if each.name == "pglisten-stream-owners" and not each.dead]
    listening.kill()
    assert owned.get(timeout=TIMEOUT) == b""
    owned = iterate(client.ask(app, HTTP_COOKIE="ann").body)
    sse.end_streams("ann", broadcaster, timeout=TIMEOUT)
    assert owned.get(timeout=TIMEOUT) == b""


def test_an_owner_has_so_many_streams_and_then_one_for_each_that_ends(
    broadcaster: Broadcaster, client: WsgiClient
) -> None:
    app = sse.app(broadcaster, anyone, owner=user, max_per_owner=2, retry=1.2)
    first, _ = (client.ask(app, HTTP_COOKIE="ann") for _ in range(2))
    refused = client.ask(app, HTTP_COOKIE="ann")
    assert (refused.status, refused.headers["Retry-After"]) == ("429 Too Many Requests", "2")
    assert client.ask(app, HTTP_COOKIE="bob").status == client.ask(app).status == "200 OK"
    first.body.close()
    assert client.ask(app, HTTP_COOKIE="ann").status == "200 OK"
    # A request that is not allowed counts no longer than it takes.
    stranger = sse.app(broadcaster, lambda environ, channel: False, owner=user, max_per_owner=1)
    assert [client.ask(stranger, HTTP_COOKIE="eve").status for _ in range(2)] == ["403 Forbidden"] * 2


def test_no_stream_may_read_who_is_revoked(broadcaster: Broadcaster, client: WsgiClient) -> None:
    assert client.ask(sse.app(broadcaster, anyone), f"channel={CONTROL_CHANNEL}").status == "400 Bad Request"
    with pytest.raises(ConfigurationError, match="is the one that ends streams"):
        sse.stream(broadcaster.subscribe(CONTROL_CHANNEL), event="news")


@pytest.mark.parametrize("owner", ["", 7, "a\0b", "x" * 8000])
def test_an_owner_that_cannot_be_one_is_refused(
    broadcaster: Broadcaster, client: WsgiClient, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match="owner is text of 1 to 7999 bytes"):
        sse.end_streams(owner, broadcaster)
    app = sse.app(broadcaster, anyone, owner=lambda environ: owner)
    assert client.ask(app).status == "500 Internal Server Error"
    assert "owner failed" in caplog.text
    assert "xxx" not in caplog.text


def test_end_streams_says_if_it_could_not_be_sent(server: FakeServer, broadcaster: Broadcaster) -> None:
    with pytest.raises(ConfigurationError, match="a Broadcaster or an EventLog, not None"):
        sse.end_streams("ann")
    broadcaster.wait_connected(TIMEOUT)
    server.stop()
    gevent.idle()
    with pytest.raises(NotConnected):
        sse.end_streams("ann", broadcaster, timeout=TIMEOUT)


def test_a_process_keeps_room_for_other_requests(
    broadcaster: Broadcaster, client: WsgiClient, capacity: None
) -> None:
    streams.capacity = len(streams) + 2
    apps = [sse.app(broadcaster, anyone) for _ in range(2)]
    first, _ = [client.ask(app) for app in apps]  # The limit is that of the process.
    assert [client.ask(app).status for app in apps] == ["503 Service Unavailable"] * 2
    assert client.ask(sse.app(broadcaster, anyone, max_streams=1)).status == "200 OK"
    first.body.close()
    assert client.ask(apps[0]).status == "503 Service Unavailable"
