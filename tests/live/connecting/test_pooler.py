"""PgBouncer in between: what works, and what cannot work."""

from __future__ import annotations

import pytest

import pglisten
from support.fixtures.listeners import Events, MakeConnection, MakeListener, fence
from support.fixtures.pgbouncer import StartPgBouncer
from support.fixtures.proxy import MakeProxy
from support.servers.server import Server

pytestmark = pytest.mark.slow  # Each test starts a process: on one Python.


def test_in_session_mode_notifications_come(
    make_listener: MakeListener, pgbouncer: StartPgBouncer, server: Server
) -> None:
    listener = make_listener(pgbouncer("session").dsn())
    listener.listen("x", timeout=20)
    server.notify("x", "from another session")
    item = listener.get(timeout=20)
    assert item is not None
    assert item.payload == "from another session"
    fence(listener, "x")


def test_a_pooler_that_comes_back_brings_a_gap_marker(
    make_listener: MakeListener, pgbouncer: StartPgBouncer, server: Server
) -> None:
    pooler, events = pgbouncer("session"), Events()
    listener = make_listener(
        pooler.dsn(), min_reconnect_interval=0.1, max_reconnect_interval=0.1, event_callback=events
    )
    listener.listen("x", timeout=20)
    pooler.kill()
    events.wait_for("DISCONNECTED", "CONNECTION_ATTEMPT_FAILED")
    pooler.start()
    assert listener.get(timeout=20) is None
    server.notify("x", "after")
    item = listener.get(timeout=20)
    assert item is not None
    assert item.payload == "after"


def test_in_transaction_mode_only_what_it_sends_itself_comes(
    make_listener: MakeListener, pgbouncer: StartPgBouncer, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(pgbouncer("transaction", host=between.host, port=between.port).dsn())
    listener.listen("x", timeout=20)
    for number in range(3):
        before = between.bytes_down
        server.notify("x", f"from another session, {number}")
        # The server has sent the notification, and PgBouncer keeps it.
        between.wait_until(lambda before=before: between.bytes_down > before)  # type: ignore[misc]
        fence(listener, "x")


def test_a_dsn_with_options_is_refused_by_the_pooler(
    make_connection: MakeConnection, pgbouncer: StartPgBouncer
) -> None:
    with pytest.raises(pglisten.ConnectionFailed, match="unsupported startup parameter"):
        make_connection(pgbouncer("session").dsn(options="-c geqo=off"))
