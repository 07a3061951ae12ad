"""Attempts to connect that stop half-way, at any point: each ends in time, and no other caller waits."""

from __future__ import annotations

import time

import gevent
import pytest

import pglisten
from pglisten.testing import DOWN, Proxy
from pglisten.testing.contract._observing import Ticker
from support.fixtures.listeners import MakeConnection
from support.fixtures.proxy import MakeProxy
from support.fixtures.tls import TlsServer
from support.servers.server import Server

pytestmark = pytest.mark.slow  # Each waits for several attempts to take too long.


CONNECT_TIMEOUT = 0.4

ALLOWANCE = 5.0
"""Seconds that a busy machine may add."""

MOST_ANSWERS = 30
"""More answers than any start-up takes, TLS included."""


def pass_on(between: Proxy, answers: int) -> None:
    """Pass on so many of the server's answers, and keep the next."""
    between.hold(DOWN)
    for _ in range(answers):
        between.wait_until(lambda: bool(between.held()), 60)
        between.release(DOWN)
        between.hold(DOWN)


def attempts_that_froze(make_connection: MakeConnection, between: Proxy, dsn: str) -> int:
    """Freeze an attempt before the first answer, another before the second, until one succeeds."""
    for answers in range(MOST_ANSWERS):
        passing = gevent.spawn(pass_on, between, answers)
        gevent.idle()
        started = time.monotonic()
        with Ticker() as ticker:
            try:
                make_connection(dsn, connect_timeout=CONNECT_TIMEOUT)
                return answers
            except pglisten.ConnectionFailed:
                pass
            finally:
                passing.kill()
                between.release()
        assert CONNECT_TIMEOUT * 0.9 <= time.monotonic() - started < CONNECT_TIMEOUT + ALLOWANCE
        ticker.assert_ran(CONNECT_TIMEOUT)
        between.wait_until(lambda: between.links == 0)
    pytest.fail("no attempt ever succeeded")


def test_connect_timeout_holds_wherever_a_start_up_freezes(
    make_connection: MakeConnection, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    dsn = server.dsn(host=between.host, port=between.port)
    # To the request for TLS, to the name of the user, to the password.
    assert attempts_that_froze(make_connection, between, dsn) >= 3


def test_connect_timeout_holds_wherever_a_start_up_over_tls_freezes(
    make_connection: MakeConnection, proxy: MakeProxy, tls_server: TlsServer
) -> None:
    between = proxy(tls_server)
    dsn = tls_server.login("scram-sha-256", host=between.host, port=between.port, sslmode="require")
    # To the request for TLS, to the client's hello, and then at least to each of SCRAM's two messages.
    assert attempts_that_froze(make_connection, between, dsn) >= 4
