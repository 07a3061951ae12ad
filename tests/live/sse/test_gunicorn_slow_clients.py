"""Event streams under gunicorn whose clients do not take what they are sent."""

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
    """Return the connection of a stream that takes nothing, and that is owed more than all buffers hold."""
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


def test_a_client_that_takes_nothing_does_not_hold_up_the_end(
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


def test_a_client_that_takes_nothing_is_given_up_and_the_others_go_on(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode, SEND_TIMEOUT="1")
    with _behind(gunicorn, server) as stuck:
        gunicorn.wait(lambda: gunicorn.get("/")["subscriptions"] == 1)
        # What the buffers hold, and the end of the connection in the middle of a chunk.
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
def test_a_client_that_is_behind_gets_what_is_queued_and_the_last_chunk(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], number: signal.Signals
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    with _behind(gunicorn, server) as behind:
        gunicorn.process.send_signal(number)
        if number == signal.SIGQUIT:
            gunicorn.wait(lambda: "Worker exiting" in gunicorn.log)
        # As fast as it can from now on; there is a second for it.
        received = bytearray()
        while data := behind.recv(65536):
            received += data
    assert received.endswith(b" all 9\n\n\r\n0\r\n\r\n")
