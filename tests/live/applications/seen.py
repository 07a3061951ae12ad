"""A small WSGI application: each worker listens, and answers requests with what arrived."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import gevent

import pglisten

listener = pglisten.Listener(
    min_reconnect_interval=0.1
)  # PG* variables and PGLISTEN_BACKEND say where and how
seen: list[str | None] = []
if "SEEN_AT_IMPORT" in os.environ:
    # With --preload this is the master, which then has a connection of its own.
    listener.listen("orders", timeout=20)


def consume() -> None:
    seen.extend(None if notification is None else notification.payload for notification in listener)


def listen() -> None:
    if "orders" not in listener.channels:
        listener.listen("orders")


def start() -> None:
    """In each worker: listen, and consume in a greenlet."""
    gevent.spawn(consume)
    gevent.spawn(listen)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/ready":
        listener.wait_connected(timeout=20)
    answer = {
        "pid": os.getpid(),
        "backend": listener.backend,
        "channels": sorted(listener.channels),
        "connected": listener.connected,
        "server_pid": listener.stats().server_pid,
        "seen": seen,
    }
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
