"""What a backend promises about the byte stream of a real server."""

from __future__ import annotations

import pytest

from ...backend import Backend, ConnInfo, Notification, Session
from ...errors import ConnectionFailed, ConnectionLost
from .._proxy import DOWN, Ending, Proxy
from ._fixtures import answering
from ._network import NetworkContract
from ._observing import (
    PATIENCE,
    background,
    connect_to,
    drain,
    every_descriptor_returned,
    listen,
    notify,
    until_lost,
    wait_readable,
)

__all__ = ["WireContract"]

_READY = b"Z\x00\x00\x00\x05I"  # ReadyForQuery, idle (PostgreSQL docs, 55.7)

_TERMINATE_SIZE = 5
"""Bytes of a Terminate message (PostgreSQL docs, 55.7)."""


def _message_size(channel: str, payload: str) -> int:
    """Return the bytes of a NotificationResponse (PostgreSQL docs, 55.7)."""
    return 1 + 4 + 4 + len(channel.encode()) + 1 + len(payload.encode()) + 1


class WireContract(NetworkContract):
    """The bytes of a real server without TLS, delayed, split, joined and cut.

    ``dsn`` leads to a PostgreSQL that accepts connections without TLS.
    """

    @pytest.fixture
    def conninfo(self, dsn: str) -> ConnInfo:
        """Return ``dsn`` without TLS, which would hide the bytes."""
        parsed = ConnInfo.parse(dsn, {})
        return ConnInfo({**parsed.values(), "sslmode": "disable"})

    def test_a_query_is_one_round_trip(self, session: Session, proxy: Proxy, channel: str) -> None:
        before = proxy.queries
        session.execute("SELECT 1", PATIENCE)
        assert proxy.queries == before + 1
        listen(session, *(f"{channel}_{number}" for number in range(200)))
        assert proxy.queries == before + 2
        session.execute("", PATIENCE)
        assert proxy.queries == before + 3

    def test_close_says_goodbye(self, session: Session, proxy: Proxy) -> None:
        before = proxy.bytes_up
        session.close()
        proxy.wait_until(lambda: proxy.links == 0)
        assert proxy.bytes_up == before + _TERMINATE_SIZE

    def test_a_reply_and_a_notification_in_one_segment_are_both_taken(
        self, session: Session, other: Session, proxy: Proxy, channel: str
    ) -> None:
        listen(session, channel)
        proxy.hold(DOWN)
        query = background(session.execute, "SELECT 1", PATIENCE)
        proxy.wait_until(lambda: _READY in proxy.held())
        notify(other, channel, "after the reply")
        proxy.wait_until(lambda: b"after the reply" in proxy.held())
        proxy.release()
        query.get(timeout=PATIENCE)
        # Not waited for: the driver may have read it with the reply.
        assert drain(session) == [Notification(other.pid, channel, "after the reply")]

    def test_a_notification_and_a_reply_in_one_segment_are_both_taken(
        self, session: Session, other: Session, proxy: Proxy, channel: str
    ) -> None:
        listen(session, channel)
        proxy.hold(DOWN)
        notify(other, channel, "before the reply")
        proxy.wait_until(lambda: b"before the reply" in proxy.held())
        query = background(session.execute, "SELECT 1", PATIENCE)
        proxy.wait_until(lambda: _READY in proxy.held())
        proxy.release()
        query.get(timeout=PATIENCE)
        assert drain(session) == [Notification(other.pid, channel, "before the reply")]

    def test_a_notification_and_the_end_in_one_segment_are_both_taken(
        self, session: Session, other: Session, proxy: Proxy, channel: str
    ) -> None:
        listen(session, channel)
        proxy.hold(DOWN)
        notify(other, channel, "last words")
        proxy.wait_until(lambda: b"last words" in proxy.held())
        other.execute(f"SELECT pg_terminate_backend({session.pid})", PATIENCE)
        proxy.wait_until(lambda: b"57P01" in proxy.held())
        proxy.release()
        received, error = until_lost(session)
        assert received == [Notification(other.pid, channel, "last words")]
        assert error.sqlstate == "57P01"

    def test_half_a_notification_is_none_until_the_rest_comes(
        self, session: Session, other: Session, proxy: Proxy, channel: str
    ) -> None:
        listen(session, channel)
        proxy.split(1, DOWN)
        payload = "piece by piece" * 500  # more pieces than the proxy sends in one turn of the hub
        notify(other, channel, payload)
        empty = 0
        while not (received := session.receive()):
            empty += 1
            wait_readable(session)
        assert received == [Notification(other.pid, channel, payload)]
        assert empty > 2, "the message was never seen in part"

    @pytest.mark.parametrize("kept", [0, 1, 4, 5, 12, -1])
    def test_a_notification_cut_in_the_middle_is_none_and_those_before_it_stay(
        self, session: Session, other: Session, proxy: Proxy, channel: str, kept: int
    ) -> None:
        listen(session, channel)
        first, second = (_message_size(channel, payload) for payload in ("whole", "cut in two"))
        proxy.cut_after(first + (kept if kept >= 0 else second + kept))
        notify(other, channel, "whole", "cut in two")
        received, error = until_lost(session)
        assert received == [Notification(other.pid, channel, "whole")]
        assert error.sqlstate is None

    @pytest.mark.parametrize("ending", ["fin", "rst"])
    @pytest.mark.parametrize("size", [0, 1, 7, 12])
    def test_a_reply_cut_in_the_middle_is_a_loss(
        self, session: Session, proxy: Proxy, size: int, ending: Ending
    ) -> None:
        proxy.cut_after(size, ending)
        with pytest.raises(ConnectionLost) as caught:
            session.execute("SELECT 1", PATIENCE)
        assert caught.value.sqlstate is None

    @pytest.mark.parametrize("size", [0, 1, 5, 40, 120])
    def test_a_start_cut_in_the_middle_fails_and_leaves_no_descriptor(
        self, backend: Backend, through: ConnInfo, proxy: Proxy, size: int
    ) -> None:
        connect_to(backend, through).close()
        proxy.wait_until(lambda: proxy.links == 0)
        with every_descriptor_returned():
            proxy.cut_after(size)
            with pytest.raises(ConnectionFailed) as caught:
                backend.connect(through, PATIENCE)
            proxy.wait_until(lambda: proxy.links == 0)
        assert "\n" not in str(caught.value)

    def test_a_server_of_another_kind_is_a_failure(self, backend: Backend, conninfo: ConnInfo) -> None:
        refusal = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
        with answering(conninfo, refusal) as elsewhere, pytest.raises(ConnectionFailed) as caught:
            backend.connect(elsewhere, PATIENCE)
        assert "\n" not in str(caught.value)
