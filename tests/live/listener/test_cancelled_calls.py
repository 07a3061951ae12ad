"""A cancelled call loses no notification that other consumers are owed."""

from __future__ import annotations

import gevent

from pglisten.testing._proxy import DOWN
from support.fixtures.listeners import MakeListener, fence
from support.fixtures.proxy import MakeProxy
from support.fixtures.servers import Server


def test_what_a_channel_brought_while_open_survives_a_listen_that_is_cancelled_later(
    make_listener: MakeListener, proxy: MakeProxy, server: Server
) -> None:
    between = proxy(server)
    listener = make_listener(server.dsn(host=between.host, port=between.port), queue_size=1)
    listener.listen("x", timeout=20)
    server.notify("x", "fills the queue")
    with gevent.Timeout(20):
        while not listener.stats().queue_depth:
            listener.ping(timeout=20)
    # The notification stays with the driver or the kernel, because the queue is full.
    server.notify("x", "waits")
    listener.unlisten("x", timeout=20)
    between.hold(DOWN)
    asked = between.queries
    caller = gevent.spawn(listener.listen, "x")
    between.wait_until(lambda: between.queries > asked)
    caller.kill()
    between.release()
    listener.ping(timeout=20)
    for payload in ("fills the queue", "waits"):
        item = listener.get(timeout=20)
        assert item is not None
        assert item.payload == payload
    listener.listen("y", timeout=20)
    fence(listener, "y")
