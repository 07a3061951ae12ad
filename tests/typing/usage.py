"""What users write, as the type checkers see it. Checked by mypy and pyright, never run."""

from __future__ import annotations

import gevent
from typing_extensions import assert_type

import pglisten
from pglisten import Broadcaster, Listener, ListenerConnection, ListenerEvent, Notification, Subscription, sse
from pglisten.backend import Backend, Session


def callback(event: ListenerEvent, error: Exception | None) -> None:
    print(event.name, error)


def consume(listener: Listener) -> None:
    for notification in listener:
        assert_type(notification, "Notification | None")
        if notification is None:
            continue
        assert_type(notification.channel, str)
        pid, channel, payload = notification
        assert_type(pid, int)
        assert_type(channel, str)
        assert_type(payload, str)


def use() -> None:
    with Listener("postgresql://app@db/app", backend="psycopg2", event_callback=callback) as listener:
        gevent.spawn(consume, listener)
        listener.listen("orders", timeout=5)
        assert_type(listener.get(timeout=1.5), "Notification | None")
        assert_type(listener.ping(), float)
        assert_type(listener.channels, frozenset[str])
        assert_type(listener.stats().connected_since, "float | None")

    connection = ListenerConnection("", queue_size=10, connect_timeout=None)
    assert_type(connection.get(), Notification)
    for item in connection:
        assert_type(item, Notification)
    assert_type(connection.error, "pglisten.Error | None")
    try:
        connection.execute("select 1")
    except pglisten.ServerError as error:
        assert_type(error.sqlstate, str)
        assert_type(error.hint, "str | None")
    except (pglisten.ConnectionLost, pglisten.ConnectionFailed) as error:
        assert_type(error.sqlstate, "str | None")
    assert_type(pglisten.available_backends(), tuple[str, ...])
    assert_type(pglisten.load_backend("pg8000"), Backend)


def broadcast(environ: dict[str, object]) -> None:
    with Broadcaster("postgresql://app@db/app", backend="pg8000", jitter=0.5) as broadcaster:
        with broadcaster.subscribe(
            "orders", overflow="close", on_gap=lambda: None, timeout=5
        ) as subscription:
            assert_type(subscription, Subscription)
            for item in subscription:
                assert_type(item, "Notification | None")
            assert_type(subscription.get(), "Notification | None")
            assert_type(subscription.dropped, int)
            for chunk in sse.stream(subscription, heartbeat=5.0):
                assert_type(chunk, bytes)
        assert_type(broadcaster.stats(), pglisten.BroadcasterStats)
        assert_type(broadcaster.stats().subscriptions, int)
    assert_type(Listener.from_config(environ), Listener)
    assert_type(Broadcaster.from_config({"PGLISTEN_DSN": ""}), Broadcaster)


def other_backend(backend: Backend, session: Session) -> None:
    assert_type(session.receive(), list[Notification])
    Listener(backend=backend)


def wrong(listener: Listener) -> None:
    listener.listen(b"orders")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Listener(jittr=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Listener(overflow="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Broadcaster(queue_sise=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Listener.from_config({}, queue_sise=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Broadcaster().subscribe("orders", overflow="wait")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
