"""The two WSGI applications that `streams.py` compares: they stream notifications to browsers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gevent.socket import wait_read

from pglisten import Broadcaster, sse

CHANNEL = "bench"

broadcaster = Broadcaster(os.environ["BENCH_DSN"], backend=os.environ.get("BENCH_BACKEND"))
one_for_all = sse.app(broadcaster, lambda environ, channel: channel == CHANNEL)


def one_each(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Stream over one psycopg2 connection per request, as applications often do."""
    import psycopg2  # noqa: PLC0415 - the other application does without

    import pglisten_psycopg2  # noqa: PLC0415

    pglisten_psycopg2.make_green()
    connection = psycopg2.connect(os.environ["BENCH_DSN"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"LISTEN {CHANNEL}")
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return _follow(connection)


def _follow(connection: Any) -> Iterator[bytes]:
    try:
        yield b"retry: 3000\n\n"
        while True:
            wait_read(connection.fileno())
            connection.poll()
            while connection.notifies:
                yield b"data: " + connection.notifies.pop(0).payload.encode() + b"\n\n"
    finally:
        connection.close()
