"""What python-socketio promises of a manager, across two servers that share a log."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import AsyncResult

from pglisten import Broadcaster, EventLog
from pglisten.errors import PayloadTooLong
from pglisten.socketio import PgManager
from support.eventlogs import append
from support.fixtures.eventlogs import MakeLog
from support.servers.server import Server
from support.socketio_peers import Peer
from support.timeouts import TIMEOUT

MakeManager = Callable[..., PgManager]


@pytest.fixture
def make_manager(make_log: MakeLog) -> MakeManager:
    """Return a function that makes a manager as another process has it: with a session of its own."""

    def make(**options: Any) -> PgManager:
        return PgManager(make_log("socketio"), **options)

    return make


@pytest.fixture
def peers(make_manager: MakeManager) -> tuple[Peer, Peer]:
    """Return two servers, each with a client of its own name."""
    one, two = Peer(make_manager()), Peer(make_manager())
    one.connect("anna")
    two.connect("bela")
    return one, two


def test_an_emit_reaches_the_clients_of_all_servers_once_and_in_order(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    for number in range(20):
        one.server.emit("price", number)
    two.wait("bela", 20)
    two.server.emit("end", ("of", {"it": None}))
    expected = [["price", number] for number in range(20)] + [["end", "of", {"it": None}]]
    assert two.wait("bela", 21) == expected
    assert one.wait("anna", 21) == expected


@pytest.mark.parametrize(
    "data",
    [b"\0\xff", {"a": [b"1", {"b": b"2"}]}, "é\0€\U0001f600", "x" * 1_000_000, bytes(1_000_000), None, []],
    ids=["binary", "nested", "text", "1 MB", "binary 1 MB", "None", "empty"],
)
@pytest.mark.any_backend
def test_data_arrives_as_it_was(peers: tuple[Peer, Peer], data: Any) -> None:
    one, two = peers
    one.server.emit("data", data)
    expected = [["data"]] if data is None else [["data", data]]
    # From another server, python-socketio makes an argument of None.
    assert two.wait("bela", 1) in (expected, [["data", data]])


def test_rooms_namespaces_and_skipped_clients_are_those_of_all_servers(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    sid = two.connect("cleo")
    two.connect("bela", "/chat")
    one.server.enter_room(sid, "vip")
    one.server.emit("to the room", room="vip")
    one.server.emit("to others", skip_sid=sid)
    one.server.emit("to the chat", namespace="/chat")
    one.server.leave_room(sid, "vip")
    one.server.emit("to nobody", room="vip")
    one.server.enter_room(sid, "vip")
    one.server.close_room("vip")
    one.server.emit("to nobody", room="vip")
    one.server.emit("to all")
    names = [name for name, *_ in two.wait("cleo", 2)]
    assert names == ["to the room", "to all"]
    assert [name for name, *_ in two.wait("bela", 3)] == ["to others", "to the chat", "to all"]


def test_the_answer_of_another_servers_client_reaches_the_callback(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    sid = two.connect("cleo")
    answers: list[tuple[str, ...]] = []
    with pytest.raises(ValueError, match="room"):
        one.server.emit("ask", callback=print)
    one.server.emit("ask", room=sid, callback=lambda *said: answers.append(said))
    ((_, *_, number),) = two.wait("cleo", 1)
    two.acknowledge("cleo", number, "well", "thanks")
    two.acknowledge("cleo", number, "again")
    one.server.emit("fence")
    two.wait("cleo", 2)
    two.server.emit("fence")
    one.wait("anna", 2)
    assert answers == [("well", "thanks")]


def test_no_callback_and_no_broken_entry_ends_the_reading_of_messages(
    peers: tuple[Peer, Peer], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = peers
    sid = two.connect("cleo")

    def late(answer: str) -> None:
        gevent.Timeout(0.001).start()  # and left behind
        with gevent.Timeout(0):
            gevent.sleep(1)

    one.server.emit("ask", room=sid, callback=late)
    ((_, *_, number),) = two.wait("cleo", 1)
    two.acknowledge("cleo", number, "well")
    one.manager._log.append("socketio", f"x {'9' * 5000} {{}}", timeout=TIMEOUT)
    two.server.emit("next")
    assert [name for name, *_ in one.wait("anna", 1)] == ["next"]
    assert "a callback failed" in caplog.messages
    assert "an entry of the log is no message of a manager" in caplog.messages


def test_a_server_disconnects_another_ones_client(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    sid = two.connect("cleo")
    gone: AsyncResult[str] = AsyncResult()
    two.server.on("disconnect", lambda left, reason: gone.set(left))
    one.server.disconnect(sid)
    assert gone.get(timeout=TIMEOUT) == sid
    assert two.wait("cleo", 1) == ["disconnected"]
    one.server.emit("to those who are left")
    two.wait("bela", 1)
    assert two.received["cleo"] == ["disconnected"]


def test_a_process_that_only_writes_and_sql_reach_the_clients(
    make_manager: MakeManager, peers: tuple[Peer, Peer], server: Server
) -> None:
    one, two = peers
    outside = make_manager(write_only=True)
    outside.emit("done", {"job": 7}, room=[two.server.manager.sid_from_eio_sid("bela", "/")])
    with pytest.raises(RuntimeError, match="context of a server"):
        outside.emit("ask", 1, room="x", callback=print)
    append(
        server,
        outside._log,
        "socketio",
        "no message",
        f"{uuid.uuid4().hex} 1 ['method']",
        f'{uuid.uuid4().hex} 1 ["method"]',
        "{not JSON",
        '{"method": "emit"}',
        json.dumps({"method": "emit", "event": "paid", "data": [17], "namespace": "/"}),
    )
    assert two.wait("bela", 2) == [["done", {"job": 7}], ["paid", 17]]
    assert one.wait("anna", 1) == [["paid", 17]]


@pytest.mark.any_backend
def test_messages_of_another_channel_and_of_earlier_are_for_others(make_manager: MakeManager) -> None:
    here, elsewhere = Peer(make_manager()), Peer(make_manager(channel="other"))
    elsewhere.connect("bela")
    here.server.emit("early", 1)
    here.connect("anna")
    elsewhere.server.emit("other", 2)
    make_manager(write_only=True).emit("late", 3)
    assert here.wait("anna", 1) == [["late", 3]]
    assert elsewhere.received["bela"] == [["other", 2]]


@pytest.mark.any_backend
def test_a_message_that_is_too_long_or_no_text_is_refused_at_once(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    with pytest.raises(PayloadTooLong, match="16777216"):
        one.server.emit("data", "x" * (16 << 20))
    with pytest.raises(TypeError, match="serializable"):
        one.server.emit("data", {object()})
    one.server.emit("next", 1)
    assert two.wait("bela", 1) == [["next", 1]]


@pytest.mark.any_backend
def test_an_emit_in_the_event_loop_is_sent_without_a_wait(peers: tuple[Peer, Peer]) -> None:
    one, two = peers
    gevent.get_hub().loop.run_callback(one.server.emit, "tick", 1)
    assert two.wait("bela", 1) == [["tick", 1]]


@pytest.mark.any_backend
def test_old_messages_are_removed(make_manager: MakeManager) -> None:
    peer = Peer(make_manager(retention=0.2))
    peer.connect("anna")
    peer.server.emit("old", 1)
    with gevent.Timeout(TIMEOUT):
        while peer.manager._log.status().entries:
            gevent.sleep(0.01)
    assert peer.received["anna"] == [["old", 1]]


@pytest.mark.any_backend
def test_a_missing_log_is_an_error_and_is_used_once_it_is_there(
    server: Server,
    log_schema: str,
    broadcaster: Broadcaster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pglisten._socketio.process.RETRY", 0.02)
    monkeypatch.setattr("pglisten.socketio.CONNECT_WAIT", 0.1)
    log = EventLog("socketio", broadcaster, schema=log_schema)
    peer, outside = Peer(PgManager(log)), PgManager(log, write_only=True)
    peer.connect("anna")
    with pytest.raises(Exception, match="does not exist"):
        outside.emit("lost", 1)
    # Told once, not with each attempt.
    assert "".join(caplog.messages).count("messages cannot be read") == 1
    server.query(EventLog.sql("socketio", schema=log_schema))
    assert peer.manager._process.reading.finished_within(TIMEOUT)
    outside.emit("found", 1)
    assert peer.wait("anna", 1) == [["found", 1]]
    log.close()
