"""The probe for a container engine is quick, also if there is none."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.server
import gevent.socket

from support.servers.docker import answers


def asked(serve: Callable[[gevent.socket.socket, object], None], limit: float = 10.0) -> bool:
    server = gevent.server.StreamServer(("127.0.0.1", 0), serve)
    server.start()
    try:
        # The probe blocks: it runs before there is a hub to block.
        return gevent.get_hub().threadpool.apply(answers, (f"tcp://127.0.0.1:{server.server_port}", limit))
    finally:
        server.stop()


def test_an_engine_that_answers_is_there() -> None:
    def serve(connection: gevent.socket.socket, address: object) -> None:
        assert connection.recv(65536).startswith(b"GET /_ping ")
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

    assert asked(serve)


def test_an_engine_that_refuses_is_not() -> None:
    def serve(connection: gevent.socket.socket, address: object) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    assert not asked(serve)


def test_what_speaks_another_language_is_not() -> None:
    def serve(connection: gevent.socket.socket, address: object) -> None:
        connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

    assert not asked(serve)


def test_a_mute_engine_is_given_up_in_time() -> None:
    begin = time.monotonic()
    assert not asked(lambda connection, address: gevent.sleep(20), limit=0.1)
    assert time.monotonic() - begin < 10


def test_a_socket_that_is_not_there_is_not(tmp_path: Path) -> None:
    assert not answers(f"unix://{tmp_path}/docker.sock")
