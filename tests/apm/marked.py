"""What an agent could see of one listener. Not collected by itself: watched.py runs it under an agent."""

from __future__ import annotations

import os
from typing import Any

import gevent
import pytest
from watched import MARK, Watch

import pglisten
from pglisten import Broadcaster, ListenerConnection
from pglisten._connection.gate import DeliveryGate
from pglisten._sql import LISTENING_QUERY
from support.agents import Agent
from support.fixtures.listeners import Events, MakeConnection, MakeListener
from support.fixtures.servers import Server
from support.timing import wait_for_a_failed_attempt

CHANNEL = f"channel {MARK}"
PAYLOAD = f"payload {MARK}"
PASSWORD = f"password{MARK}"


@pytest.fixture
def agent(watch: Watch) -> Agent:
    return watch.agent


def test_the_applications_own_connection_is_recorded(agent: Agent, server: Server) -> None:
    agent.ask(server.keywords)


def test_a_listener_works_and_its_heartbeats_come(
    watch: Watch, make_listener: MakeListener, server: Server
) -> None:
    events = Events()
    listener = make_listener(heartbeat_interval=0.05, event_callback=events)
    listener.listen(CHANNEL, timeout=20)
    watch.wait_for(LISTENING_QUERY)
    for _ in range(2):
        listener.notify(CHANNEL, PAYLOAD, timeout=20)
        item = listener.get(timeout=20)
        assert item is not None
        assert (item.channel, item.payload) == (CHANNEL, PAYLOAD)
        assert server.terminate(listener.stats().server_pid or 0)
        events.wait_for("DISCONNECTED", "RECONNECTED")
        assert listener.get(timeout=20) is None
    listener.unlisten(CHANNEL, timeout=20)


def test_a_connection_works(make_connection: MakeConnection) -> None:
    connection = make_connection()
    connection.listen(CHANNEL, timeout=20)
    connection.execute(f"SELECT '{MARK}'; NOTIFY \"{CHANNEL}\", '{PAYLOAD}'", timeout=20)
    item = connection.get(timeout=20)
    assert item is not None
    assert item.payload == PAYLOAD
    assert connection.ping(timeout=20) > 0


def test_a_broadcaster_works(server: Server, backend_name: str) -> None:
    with Broadcaster(server.dsn(), backend=backend_name) as broadcaster:
        subscription = broadcaster.subscribe(CHANNEL, timeout=20)
        broadcaster.notify(CHANNEL, PAYLOAD, timeout=20)
        item = subscription.get(timeout=20)
        assert item is not None
        assert item.payload == PAYLOAD


@pytest.fixture
def nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARKED_DSN", server.dsn(host="127.0.0.1", port=1, password=PASSWORD))


@pytest.mark.usefixtures("nowhere")
def test_a_failed_attempt_that_is_captured_shows_no_password(agent: Agent, backend_name: str) -> None:
    try:
        ListenerConnection(os.environ["MARKED_DSN"], backend=backend_name)
    except pglisten.ConnectionFailed:
        agent.capture()
    else:
        pytest.fail("it connected")


@pytest.mark.usefixtures("nowhere")
def test_a_listener_that_does_not_connect_shows_no_password(agent: Agent, backend_name: str) -> None:
    with pglisten.Listener(os.environ["MARKED_DSN"], backend=backend_name) as listener:
        wait_for_a_failed_attempt(listener)
        try:
            listener.wait_connected(0)
        except pglisten.OperationTimeout:
            agent.capture()
        else:
            pytest.fail("it connected")


def lose(connection: ListenerConnection) -> None:
    """Meet the bug, with a payload in hand."""
    connection.listen("x", timeout=20)
    connection.execute(f"NOTIFY x, '{PAYLOAD}'", timeout=20)
    connection.ping(20)


def test_a_bug_that_is_logged_and_captured_shows_no_payload(
    agent: Agent, make_connection: MakeConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(self: DeliveryGate, batch: list[Any], orphans: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(DeliveryGate, "put", put)
    connection = make_connection()
    with gevent.Timeout(20), pytest.raises(pglisten.ConnectionLost):
        lose(connection)
    try:
        connection.get(timeout=20)
    except pglisten.ConnectionLost:
        agent.capture()
    else:
        pytest.fail("there was no bug")
