"""A WSGI application with event streams, and a request that waits for a notification: see
test_gunicorn_streams.py."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import gevent

import pglisten
from pglisten import EventLog, health, sse

broadcaster = pglisten.Broadcaster(min_reconnect_interval=0.1)  # PG* and PGLISTEN_BACKEND say where and how
StartResponse = Callable[..., Any]


def tell_worker(notification: pglisten.Notification) -> str:
    return f"{os.getpid()} {notification.payload}"


events = sse.app(
    broadcaster,
    lambda environ, channel: True,
    encode=tell_worker,
    heartbeat=float(os.environ.get("HEARTBEAT", "15")),
    send_timeout=float(os.environ.get("SEND_TIMEOUT", "60")),
)


consumed: list[str] = []

if "CONSUME" in os.environ:

    @broadcaster.on("prices", on_gap=lambda: consumed.append("gap"))
    def consume(notification: pglisten.Notification) -> None:
        consumed.append(notification.payload)
        if notification.payload == "stuck":
            gevent.sleep(60)
        elif notification.payload == "bad":
            raise ValueError(notification.payload)


log = EventLog("streams", broadcaster, schema="streams")
resuming = sse.app(
    log,
    lambda environ, channel: True,
    retry=(float(os.environ.get("RETRY_LOW", "1")), float(os.environ.get("RETRY_HIGH", "5"))),
)

healthz = health.app(broadcaster)
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    from pglisten import metrics

    metrics.export(broadcaster, log, interval=0.05, log_interval=0.1)
    scrape = metrics.app()


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/events":
        return events(environ, start_response)
    if path == "/log":
        return resuming(environ, start_response)
    if path == "/healthz":
        return healthz(environ, start_response)
    if path == "/metrics":
        return scrape(environ, start_response)
    if path == "/by-hand":
        subscription = broadcaster.subscribe("orders", timeout=20)
        start_response("200 OK", list(sse.HEADERS))
        return sse.stream(subscription, encode=tell_worker)
    if path == "/waits":
        with broadcaster.subscribe("late", timeout=20) as late:
            notification = late.get(timeout=20)
        answer: Any = notification and notification.payload
    elif path == "/green":
        from psycopg2.extensions import get_wait_callback

        callback = get_wait_callback()
        answer = callback and callback.__module__
    else:
        stats = broadcaster.stats()
        answer = {"pid": os.getpid(), "server_pid": stats.server_pid, "subscriptions": stats.subscriptions}
        answer["consumed"] = consumed
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
