"""Event streams under gunicorn whose clients take no data."""

from __future__ import annotations

import contextlib
import signal
import time

import pytest
from gevent import socket

from support.fixtures.gunicorn import PROMPTLY, Gunicorn, StartGunicorn
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]


def _behind(gunicorn: Gunicorn, server: Server) -> socket.socket:
    """Return the connection of a client that takes no data; its queue is larger than all buffers."""
    source = gunicorn.open("/events?channel=orders")
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect(("127.0.0.1", gunicorn.port))
    stuck.sendall(b"GET /events?channel=orders HTTP/1.1\r\nHost: test\r\n\r\n")
    assert b"200 OK" in stuck.recv(100)
    for number in range(10):
        server.query("SELECT pg_notify('orders', repeat('x', 7000) || n) FROM generate_series(1, 100) n")
        server.notify("orders", f"all {number}")
        source.wait_data(str(number))
    return stuck


def test_a_client_that_takes_no_data_does_not_delay_the_end(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    with _behind(gunicorn, server):
        worker = gunicorn.workers()[0]
        began = time.monotonic()
        gunicorn.process.send_signal(signal.SIGTERM)
        gunicorn.wait_gone(worker)
        assert time.monotonic() - began < PROMPTLY
    assert "graceful timeout" not in gunicorn.log
    assert "Traceback" not in gunicorn.log


def test_a_client_that_takes_no_data_is_closed_and_the_others_continue(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode, SEND_TIMEOUT="1")
    with _behind(gunicorn, server) as stuck:
        gunicorn.wait(lambda: gunicorn.get("/")["subscriptions"] == 1)
        # The client gets the content of the buffers; then the connection ends in the middle of a chunk.
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := stuck.recv(65536):
                received += data
        assert b" all 9\n" not in received
        assert not received.endswith(b"0\r\n\r\n")
        (source,) = gunicorn.sources
        server.notify("orders", "goes on")
        source.wait_data("on")
    assert "Traceback" not in gunicorn.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_client_that_is_behind_gets_its_queue_and_the_last_chunk(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], number: signal.Signals
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    with _behind(gunicorn, server) as behind:
        gunicorn.process.send_signal(number)
        if number == signal.SIGQUIT:
            gunicorn.wait(lambda: "Worker exiting" in gunicorn.log)
        # From now on the client reads as fast as it can; it has one second.
        received = bytearray()
        while data := behind.recv(65536):
            received += data
    assert received.endswith(b" all 9\n\n\r\n0\r\n\r\n")
