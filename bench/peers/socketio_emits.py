"""Emit messages to a Socket.IO client of another process, or be the process with the client."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import socketio  # noqa: E402

from bench.peers.script import CHANNEL, LONG, main, say  # noqa: E402
from pglisten import Broadcaster, EventLog  # noqa: E402
from pglisten.socketio import PgManager  # noqa: E402

GREENLETS = 100
LARGE = "x" * 1_000_000


def _manager(options: argparse.Namespace, *, write_only: bool) -> Any:
    if options.style == "redis":
        url = f"redis://127.0.0.1:{options.redis}"
        return socketio.RedisManager(url, channel=CHANNEL, write_only=write_only)
    log = EventLog("socketio", Broadcaster(options.uri, backend=options.backend))
    return PgManager(log, CHANNEL, write_only)


def receive(options: argparse.Namespace) -> None:
    """Serve one client, whose network is left out, and report on what it has got."""
    server = socketio.Server(
        async_mode="gevent", client_manager=_manager(options, write_only=False), namespaces="*"
    )
    began, cpu, ages = 0.0, time.process_time(), list[float]()

    def got(name: str, sent: float, *_: object) -> None:
        nonlocal began, cpu
        now = time.time()
        if name == "end":
            ages.sort()
            used = time.process_time() - cpu
            say(seconds=now - began, p50=statistics.median(ages), count=len(ages), cpu=used)
            ages.clear()
            cpu = time.process_time()
            return
        began = began if ages else sent
        ages.append(now - sent)

    def deliver(_: str, packet: Any) -> None:
        got(*socketio.packet.Packet(encoded_packet=packet.data).data)

    server.eio.send_packet = deliver
    server.eio.send = lambda *_: None
    server._handle_eio_connect("client", {})
    server._handle_eio_message("client", "0")
    say(ready=True)
    gevent.sleep(LONG)


def _emit(options: argparse.Namespace, greenlets: int, *more: str) -> None:
    manager = _manager(options, write_only=True)
    manager.emit("end", (time.time(),), room="nobody")  # It connects.
    cpu = time.process_time()

    def emit(numbers: range) -> None:
        for _ in numbers:
            manager.emit("message", (time.time(), *more))

    shares = [range(number, options.count, greenlets) for number in range(greenlets)]
    gevent.joinall([gevent.spawn(emit, share) for share in shares], raise_error=True)
    manager.emit("end", (time.time(),))
    say(cpu=time.process_time() - cpu)


def one(options: argparse.Namespace) -> None:
    _emit(options, 1)


def many(options: argparse.Namespace) -> None:
    _emit(options, GREENLETS)


def large(options: argparse.Namespace) -> None:
    _emit(options, 1, LARGE)


if __name__ == "__main__":
    main(receive=receive, one=one, many=many, large=large)
