"""The proxy, between a client and a server that echoes every byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

import gevent
import gevent.server
import gevent.socket
import pytest

from pglisten.testing import DOWN, UP, Proxy
from pglisten.testing._proxy_wire import QueryCounter


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that returns every byte."""

    def serve(connection: gevent.socket.socket, address: object) -> None:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
        except OSError:
            pass  # a proxy that is closed has no time for manners

    server = gevent.server.StreamServer(("127.0.0.1", 0), serve)
    server.start()
    yield ("127.0.0.1", int(server.server_port or 0))
    server.stop()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: Proxy) -> Iterator[gevent.socket.socket]:
    with gevent.socket.create_connection((proxy.host, proxy.port), timeout=10) as client:
        yield client


def receive(client: gevent.socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, f"the end came after {data!r}"
        data += part
    return data


def proxy_holds(proxy: Proxy, last: bytes) -> bool:
    return proxy.held().endswith(last)


def test_bytes_pass_and_are_counted(proxy: Proxy, client: gevent.socket.socket) -> None:
    client.sendall(b"hello")
    assert receive(client, 5) == b"hello"
    assert (proxy.bytes_up, proxy.bytes_down, proxy.connections, proxy.links) == (5, 5, 1, 1)


def test_what_was_held_arrives_in_one_piece(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.hold(DOWN)
    for part in (b"reply", b" and ", b"notification"):
        client.sendall(part)
        proxy.wait_until(partial(proxy_holds, proxy, part))
    proxy.release()
    assert client.recv(100) == b"reply and notification"


def test_one_direction_is_held_while_the_other_passes(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.hold(UP)
    client.sendall(b"x")
    proxy.wait_until(lambda: proxy.held(UP) == b"x")
    assert proxy.bytes_down == 0
    proxy.release(UP)
    assert receive(client, 1) == b"x"


def test_what_was_dropped_never_comes(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.drop(UP)
    client.sendall(b"lost")
    proxy.wait_until(lambda: proxy.bytes_up == 4)
    proxy.release()
    client.sendall(b"fence")
    assert receive(client, 5) == b"fence"


def test_a_stalled_proxy_stops_reading_and_the_sender_notices(
    proxy: Proxy, client: gevent.socket.socket
) -> None:
    proxy.stall(UP)
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        # Far more than the kernel's buffers of both sockets hold.
        client.sendall(bytes(64 * 1024 * 1024))
    assert proxy.bytes_up <= 65536


def test_a_mute_proxy_does_not_even_dial(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.hold(UP)
    proxy.refuse()
    client.sendall(b"x")
    proxy.wait_until(lambda: proxy.bytes_up == 1)
    assert proxy.bytes_down == 0


def test_pieces_arrive_apart(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.split(1)
    client.sendall(b"abc")
    assert [client.recv(100) for _ in range(3)] == [b"a", b"b", b"c"]


def test_a_delay_delays(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.delay(0.05, DOWN)
    client.sendall(b"x")
    client.settimeout(0.01)
    with pytest.raises(TimeoutError):
        client.recv(1)
    client.settimeout(10)
    assert client.recv(1) == b"x"


def test_a_fin_is_an_end_of_file(proxy: Proxy, client: gevent.socket.socket) -> None:
    client.sendall(b"x")
    receive(client, 1)
    proxy.cut("fin")
    assert client.recv(1) == b""


def test_an_rst_is_a_reset(proxy: Proxy, client: gevent.socket.socket) -> None:
    client.sendall(b"x")
    receive(client, 1)
    proxy.cut("rst")
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_cut_in_the_middle_lets_just_so_much_through(proxy: Proxy, client: gevent.socket.socket) -> None:
    proxy.cut_after(3)
    client.sendall(b"hello")
    assert receive(client, 3) == b"hel"
    assert client.recv(1) == b""


def test_a_refusing_proxy_keeps_its_port_and_its_open_connections(
    proxy: Proxy, client: gevent.socket.socket
) -> None:
    client.sendall(b"x")
    assert receive(client, 1) == b"x"
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        gevent.socket.create_connection((proxy.host, proxy.port))
    client.sendall(b"y")
    assert receive(client, 1) == b"y"
    proxy.accept()
    gevent.socket.create_connection((proxy.host, proxy.port)).close()


def test_a_client_that_leaves_ends_the_link(proxy: Proxy, client: gevent.socket.socket) -> None:
    client.sendall(b"x")
    receive(client, 1)
    client.close()
    proxy.wait_until(lambda: proxy.links == 0)


def test_a_server_that_is_not_there_is_a_reset() -> None:
    # Bound and not listening: it refuses.
    with gevent.socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            Proxy(unused.getsockname()) as proxy,
            gevent.socket.create_connection((proxy.host, proxy.port)) as client,
        ):
            client.sendall(b"x")
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_a_wait_in_vain_says_what_the_proxy_was_doing(proxy: Proxy) -> None:
    with pytest.raises(TimeoutError, match=r"<Proxy 127\.0\.0\.1:\d+ accepting up=pass down=pass links=0>"):
        proxy.wait_until(lambda: False, timeout=0.01)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


STARTUP = struct.pack("!ii", 17, 3 << 16) + b"user\0a\0\0\0"[:9]
SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_questions_are_counted_however_the_stream_is_cut(size: int) -> None:
    stream = SSL_REQUEST + STARTUP + message(b"p", b"Q" * 40)
    stream += message(b"Q", b"SELECT 'Q'\0") + message(b"P", b"Q") + message(b"S", b"") + message(b"X", b"")
    counter = QueryCounter()
    assert sum(counter.feed(stream[at : at + size]) for at in range(0, len(stream), size)) == 2
    assert counter.queries == 2


def test_an_encrypted_stream_counts_as_nothing() -> None:
    counter = QueryCounter()
    counter.feed(SSL_REQUEST + b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + message(b"Q", b"") * 10)
    assert counter.queries == 0
