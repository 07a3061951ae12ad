"""What a backend promises on a failing network, both in clear and over TLS."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
import pytest

from ...backend import Backend, ConnInfo, Notification, Session
from ...errors import ConnectionFailed, ConnectionLost, ServerError
from .._proxy import DOWN, Ending, Proxy
from ._fixtures import Connect, ContractFixtures
from ._observing import (
    PATIENCE,
    SHORT,
    Ticker,
    addresses,
    background,
    drain,
    listen,
    notify,
    until_lost,
    wait_for_notifications,
)

__all__ = ["NetworkContract"]

_MORE_THAN_THE_KERNEL_BUFFERS = 12_000_000
"""More bytes than the buffers of two sockets hold while the receiver does not read. Linux's largest are
6 MiB to receive and 4 MiB to send (tcp_rmem and tcp_wmem, tcp(7))."""


class ProxyFixtures(ContractFixtures):
    """Fixtures for sessions through a proxy, beside direct sessions."""

    @pytest.fixture
    def proxy(self, conninfo: ConnInfo) -> Iterator[Proxy]:
        """Return a proxy in front of the server."""
        server = (
            conninfo.socket_path if conninfo.is_unix else (addresses(conninfo)[0].hostaddr, conninfo.port)
        )
        with Proxy(server) as proxy:
            yield proxy

    @pytest.fixture
    def through(self, conninfo: ConnInfo, proxy: Proxy) -> ConnInfo:
        """Return the connection string that leads through the proxy."""
        host = "127.0.0.1" if conninfo.is_unix else conninfo.host
        return ConnInfo({**conninfo.values(), "host": host, "hostaddr": proxy.host, "port": str(proxy.port)})

    @pytest.fixture
    def session(self, connect: Connect, through: ConnInfo) -> Session:
        """Return the session under test, which leads through the proxy."""
        return connect(through)


class NetworkContract(ProxyFixtures):
    """Delays, pieces, cuts and black holes."""

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
    def test_a_session_starts_in_pieces_of_any_size(
        self, connect: Connect, through: ConnInfo, proxy: Proxy, size: int
    ) -> None:
        proxy.split(size)
        connect(through).execute("SELECT 1", PATIENCE)

    @pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
    def test_pieces_of_any_size_make_the_same_messages(
        self, session: Session, other: Session, proxy: Proxy, channel: str, size: int
    ) -> None:
        proxy.split(size)
        listen(session, channel, "é")
        payloads = ["", "x", "é" * 40, "last"]
        notify(other, channel, *payloads)
        expected = [Notification(other.pid, channel, payload) for payload in payloads]
        assert wait_for_notifications(session, len(payloads)) == expected
        with pytest.raises(ServerError) as caught:
            session.execute("SELEC 1", PATIENCE)
        assert caught.value.sqlstate == "42601"
        session.execute(f"NOTIFY {channel}, 'own'; SELECT 1, 'two'; SELECT 2", PATIENCE)
        assert drain(session) == [Notification(session.pid, channel, "own")]
        rows = [("é" * 40, None), ("", "last")]
        assert session.fetch("VALUES ('" + "é" * 40 + "', NULL), ('', 'last')", PATIENCE) == rows

    @pytest.mark.parametrize("size", [1, 100])
    def test_the_reason_of_an_end_survives_pieces(
        self, session: Session, other: Session, proxy: Proxy, size: int
    ) -> None:
        proxy.split(size)
        other.execute(f"SELECT pg_terminate_backend({session.pid})", PATIENCE)
        _, error = until_lost(session)
        assert error.sqlstate == "57P01"

    def test_a_large_query_and_a_large_burst_at_once_do_not_block_each_other(
        self, session: Session, other: Session, connect: Connect, channel: str
    ) -> None:
        payloads = [f"{number:07900}" for number in range(_MORE_THAN_THE_KERNEL_BUFFERS // 7_900)]
        direct = connect()
        listen(direct, channel)
        for start in range(0, len(payloads), 500):
            notify(other, channel, *payloads[start : start + 500])
        # The server cannot send, and so it does not read, until this process receives.
        with Ticker() as ticker:
            direct.execute(f"SELECT 1 /* {'x' * _MORE_THAN_THE_KERNEL_BUFFERS} */", PATIENCE)
        assert ticker.count > 1
        received = wait_for_notifications(direct, len(payloads))
        assert [notification.payload for notification in received] == payloads

    @pytest.mark.parametrize("ending", ["fin", "rst"])
    def test_an_idle_session_is_lost_when_cut(self, session: Session, proxy: Proxy, ending: Ending) -> None:
        proxy.cut(ending)
        received, error = until_lost(session)
        assert received == []
        assert error.sqlstate is None
        assert str(error)
        assert "\n" not in str(error)
        with pytest.raises(ConnectionLost):
            session.execute("SELECT 1", PATIENCE)

    @pytest.mark.parametrize("ending", ["fin", "rst"])
    def test_a_busy_session_is_lost_when_cut(self, session: Session, proxy: Proxy, ending: Ending) -> None:
        proxy.hold(DOWN)
        query = background(session.execute, "SELECT 1", None)
        proxy.wait_until(lambda: bool(proxy.held()))
        proxy.cut(ending)
        with pytest.raises(ConnectionLost):
            query.get(timeout=PATIENCE)
        with pytest.raises(ConnectionLost):
            session.receive()

    def test_a_query_into_a_black_hole_is_given_up_in_time(self, session: Session, proxy: Proxy) -> None:
        proxy.drop()
        started = time.monotonic()
        with Ticker() as ticker, pytest.raises(ConnectionLost):
            session.execute("SELECT 1", SHORT)
        assert SHORT * 0.9 <= time.monotonic() - started < SHORT + 5
        ticker.assert_ran(SHORT)

    @pytest.mark.parametrize("treatment", ["drop", "stall", "hold"])
    def test_close_does_not_wait_for_the_network(
        self, connect: Connect, through: ConnInfo, proxy: Proxy, treatment: str
    ) -> None:
        session = connect(through)
        descriptor = session.fileno()
        getattr(proxy, treatment)()
        started = time.monotonic()
        session.close()
        assert time.monotonic() - started < 1
        proxy.release()
        proxy.wait_until(lambda: proxy.links == 0)
        assert descriptor >= 0

    def test_abandon_sends_nothing(self, session: Session, proxy: Proxy) -> None:
        before = proxy.bytes_up
        session.abandon()
        proxy.wait_until(lambda: proxy.links == 0)
        session.close()
        assert proxy.bytes_up == before

    def test_receive_sends_nothing(
        self, session: Session, other: Session, proxy: Proxy, channel: str
    ) -> None:
        listen(session, channel)
        before = proxy.bytes_up
        notify(other, channel, "a", "b")
        assert len(wait_for_notifications(session, 2)) == 2
        assert session.receive() == []
        assert proxy.bytes_up == before

    @pytest.mark.parametrize("kind", [ValueError, OSError, TimeoutError, ConnectionFailed])
    def test_what_is_thrown_into_a_connect_comes_out_of_it(
        self, backend: Backend, through: ConnInfo, proxy: Proxy, kind: type[Exception]
    ) -> None:
        thrown = kind("thrown in from outside")
        proxy.hold()
        with pytest.raises(kind) as caught, gevent.Timeout(SHORT, thrown):
            backend.connect(through, PATIENCE)
        assert caught.value is thrown

    @pytest.mark.parametrize("kind", [ValueError, OSError, TimeoutError, ConnectionLost])
    def test_what_is_thrown_into_a_query_comes_out_of_it(
        self, session: Session, proxy: Proxy, kind: type[Exception]
    ) -> None:
        thrown = kind("thrown in from outside")
        proxy.hold()
        with pytest.raises(kind) as caught, gevent.Timeout(SHORT, thrown):
            session.execute("SELECT 1", PATIENCE)
        assert caught.value is thrown
