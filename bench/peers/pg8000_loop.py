"""pg8000's own message loop, with its own parser of notifications.

pg8000 reads only while a query runs, and keeps at most 100 notifications. So this loop does what
`CoreConnection.handle_messages` does, with an unlimited list.
"""

from __future__ import annotations

import argparse
import ssl
from urllib.parse import unquote, urlsplit

import pg8000.core
import pg8000.native

from bench.peers.script import CHANNEL, Burst, arrived, main, say


def listening(uri: str) -> pg8000.native.Connection:
    url = urlsplit(uri)
    context: ssl.SSLContext | bool = False
    if "sslmode=require" in url.query:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    made = pg8000.native.Connection(
        url.username, url.hostname, url.path[1:], url.port, unquote(url.password or ""), ssl_context=context
    )
    made.notifications = []
    made.run(f"LISTEN {CHANNEL}")
    say(ready=True)
    return made


def wait(on: pg8000.native.Connection) -> None:
    """Read one message."""
    read, stream = pg8000.core._read, on._sock
    code, length = pg8000.core.ci_unpack(read(stream, 5))
    on.message_types[code](read(stream, length - 4), None)


def burst(options: argparse.Namespace) -> None:
    conn = listening(options.uri)
    wait(conn)
    watch, consumed = Burst(), 0
    read, unpack, stream, handlers = pg8000.core._read, pg8000.core.ci_unpack, conn._sock, conn.message_types
    while True:
        code, length = unpack(read(stream, 5))
        handlers[code](read(stream, length - 4), None)
        items, conn.notifications = conn.notifications, []
        for _ in items:
            consumed += 1
        if consumed >= options.count:
            break
    watch.done(consumed, items[-1][2])


def latency(options: argparse.Namespace) -> None:
    conn = listening(options.uri)
    for _ in range(options.count):
        wait(conn)
        arrived(conn.notifications.pop(0)[2])


if __name__ == "__main__":
    main(burst=burst, latency=latency)
