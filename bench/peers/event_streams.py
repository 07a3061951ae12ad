"""A server of event streams. It prints its port, and the id of the process that serves."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from gevent.queue import Queue
from gevent.server import StreamServer
from gunicorn.app.base import BaseApplication

from bench.peers.script import main, say
from pglisten import Broadcaster, gunicorn, sse
from pglisten.testing.postgres.processes import free_port

Application = Callable[..., Iterable[bytes]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 3000\n\n"


def alone(options: argparse.Namespace) -> None:
    """Serve with the least that gevent can do: a queue and ``sendall`` for each client, and no framework."""
    from bench.peers.gevent_loop import wait  # noqa: PLC0415 - the others need no psycopg2
    from bench.peers.psycopg2_loop import connect  # noqa: PLC0415

    queues: set[Queue[bytes]] = set()

    def serve(client: Any, _: object) -> None:
        client.recv(65536)
        client.sendall(HEAD)
        queue: Queue[bytes] = Queue()
        queues.add(queue)
        try:
            while True:
                client.sendall(queue.get())
        except OSError:
            queues.discard(queue)

    server = StreamServer(("127.0.0.1", 0), serve, backlog=4096)
    server.start()
    connection = connect(options.uri)
    say(pid=os.getpid(), port=server.server_port)
    while True:
        wait(connection)
        items, connection.notifies = connection.notifies, []
        for item in items:
            event = b"data: %b\n\n" % item.payload.encode()
            for queue in queues:
                queue.put(event)


def ours(options: argparse.Namespace) -> Application:
    return sse.app(Broadcaster(options.uri, backend=options.backend), lambda _environ, _channel: True)


def each(options: argparse.Namespace) -> Application:
    """Stream over one psycopg2 connection per request, as applications often do."""
    from bench.peers.gevent_loop import wait  # noqa: PLC0415
    from bench.peers.psycopg2_loop import connect  # noqa: PLC0415
    from pglisten_psycopg2 import make_green  # noqa: PLC0415

    make_green()

    def follow(connection: Any) -> Iterator[bytes]:
        try:
            yield b"retry: 3000\n\n"
            while True:
                wait(connection)
                yield b"data: %b\n\n" % connection.notifies.pop(0).payload.encode()
        finally:
            connection.close()

    def application(_environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        connection = connect(options.uri)
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return follow(connection)

    return application


def flask_sse(options: argparse.Namespace) -> Application:
    from flask import Flask  # noqa: PLC0415
    from flask_sse import sse as blueprint  # noqa: PLC0415

    app = Flask(__name__)
    app.config["REDIS_URL"] = f"redis://127.0.0.1:{options.redis}"
    app.register_blueprint(blueprint, url_prefix="/")
    return app


class Gunicorn(BaseApplication):  # type: ignore[misc]
    """gunicorn with one gevent worker."""

    def __init__(self, application: Callable[[], Application]) -> None:
        self._application = application
        self._port = free_port()
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "worker_class": "gevent",
            "worker_connections": 10_000,
            "bind": f"127.0.0.1:{self._port}",
            "backlog": 4096,
            "loglevel": "error",
            "post_fork": gunicorn.post_fork,
            "post_worker_init": self._ready,
            "worker_exit": gunicorn.worker_exit,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Application:
        return self._application()

    def _ready(self, worker: Any) -> None:
        gunicorn.post_worker_init(worker)
        say(pid=os.getpid(), port=self._port)


def serve(options: argparse.Namespace) -> None:
    if options.style == "alone":
        alone(options)
    made = {"pglisten": ours, "each": each, "flask-sse": flask_sse}[options.style]
    Gunicorn(lambda: made(options)).run()


if __name__ == "__main__":
    main(serve=serve)
