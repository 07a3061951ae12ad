"""Emits while the connection is lost, and greenlets that are killed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gevent
import pytest

from pglisten import EventLog
from pglisten.errors import ListenerClosed, OperationTimeout
from pglisten.socketio import PgManager
from pglisten.testing import Proxy
from support.eventlogs import trim
from support.fixtures.eventlogs import MakeLog
from support.servers.server import Server
from support.socketio_peers import Peer
from support.timeouts import TIMEOUT

Behind = tuple[EventLog, Proxy]


def test_what_is_emitted_while_connections_are_cut_comes_once_and_in_order(
    make_log: MakeLog, log_behind_proxy: Behind
) -> None:
    log, between = log_behind_proxy
    one, two, outside = Peer(PgManager(log)), Peer(PgManager(make_log())), Peer(PgManager(make_log()))
    one.connect("anna")
    two.connect("bela")

    def emit(sender: str, peer: Peer) -> None:
        for number in range(100):
            peer.server.emit("count", [sender, number])

    greenlets = [gevent.spawn(emit, f"one {number}", one) for number in range(4)]
    greenlets.append(gevent.spawn(emit, "outside", outside))
    for _ in range(8):
        gevent.sleep(0.03)
        between.cut()
    gevent.joinall(greenlets, timeout=TIMEOUT, raise_error=True)
    for name, peer in (("anna", one), ("bela", two)):
        got = [data for _, data in peer.wait(name, 500)]
        assert len(got) == 500
        for sender in {sender for sender, _ in got}:
            assert [number for each, number in got if each == sender] == list(range(100))


@pytest.mark.any_backend
def test_an_emit_that_has_timed_out_or_was_killed_is_not_sent_later(
    make_log: MakeLog, log_behind_proxy: Behind
) -> None:
    log, between = log_behind_proxy
    two, outside = Peer(PgManager(make_log())), PgManager(log, write_only=True, timeout=0.1)
    patient = PgManager(log, write_only=True, timeout=TIMEOUT)
    two.connect("bela")
    outside.emit("first", 1)
    patient.emit("second", 1)
    between.refuse()
    between.cut()
    killed = gevent.spawn(patient.emit, "killed", 2)
    waiting = gevent.spawn(patient.emit, "waited", 2)
    gevent.idle()
    killed.kill()
    with pytest.raises(OperationTimeout, match="emit: not done") as raised:
        outside.emit("late", 2)
    assert raised.value.__cause__ is not None
    between.accept()
    waiting.get(timeout=TIMEOUT)
    outside.emit("last", 3)
    assert [name for name, *_ in two.wait("bela", 4)] == ["first", "second", "waited", "last"]


@pytest.mark.any_backend
def test_a_process_that_was_away_longer_than_messages_are_kept_is_told(
    server: Server, make_log: MakeLog, log_behind_proxy: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    log, between = log_behind_proxy
    gaps: list[str] = []

    def on_gap() -> None:
        gaps.append("gap")
        raise ValueError("of the application")

    told, logged = Peer(PgManager(log, on_gap=on_gap)), Peer(PgManager(log))
    other = make_log()
    outside = PgManager(other, write_only=True)
    for peer in (told, logged):
        peer.connect("anna")
    between.refuse()
    between.cut()
    outside.emit("missed", 1)
    trim(server, other, other.position())
    between.accept()
    outside.emit("next", 2)
    for peer in (told, logged):
        assert peer.wait("anna", 1) == [["next", 2]]
    assert gaps == ["gap"]
    texts = [record.message for record in caplog.records if record.name == "pglisten.socketio"]
    assert sorted(texts) == [
        "messages are missing: they were trimmed before this process had read them",
        "on_gap failed",
    ]


@pytest.mark.any_backend
def test_if_the_sending_greenlet_is_killed_no_caller_waits_forever(log_behind_proxy: Behind) -> None:
    log, between = log_behind_proxy
    outside: Any = PgManager(log, write_only=True, timeout=None)
    outside.emit("first", 1)
    between.refuse()
    between.cut()
    callers = [gevent.spawn(outside.emit, "never", number) for number in range(3)]
    gevent.idle()  # Now they wait.
    outside._process.outbox._greenlet.kill()
    for caller in callers:
        with pytest.raises(ListenerClosed):
            caller.get(timeout=TIMEOUT)
    between.accept()
    outside.emit("second", 2)


@pytest.mark.any_backend
def test_after_the_log_is_closed_an_emit_says_so(make_log: MakeLog) -> None:
    log = make_log()
    peer = Peer(PgManager(log))
    peer.connect("anna")
    log.close()
    with pytest.raises(ListenerClosed):
        peer.server.emit("late", 1)
    assert peer.manager._process.ended.wait(TIMEOUT)


FORKS = """
import os, sys
import socketio
from pglisten import Broadcaster, EventLog
from pglisten.socketio import PgManager

manager = PgManager(EventLog("socketio", Broadcaster(), schema=sys.argv[1]), write_only=True)
server = socketio.Server(async_mode="gevent", client_manager=manager, namespaces="*")
delivered = []
server.eio.send = server.eio.send_packet = lambda name, _: delivered.append(name)
server._handle_eio_connect("client", {})
server._handle_eio_message("client", "0")
manager.emit("from", "parent")
ids, had = [manager.host_id], len(delivered)
child = os.fork()
manager.emit("from", "child" if child == 0 else "parent again")
if child == 0:
    os._exit(manager.host_id in ids or len(delivered) != had)
assert len(delivered) == had + 1
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.slow
@pytest.mark.any_backend
def test_a_forked_child_is_a_sender_of_its_own_and_leaves_the_clients_to_its_parent(
    server: Server, make_log: MakeLog, log_schema: str, backend_name: str
) -> None:
    peer = Peer(PgManager(make_log("socketio")))
    peer.connect("anna")
    program = [sys.executable, "-c", FORKS, log_schema]
    variables = server.variables(PGLISTEN_BACKEND=backend_name)
    assert gevent.get_hub().threadpool.apply(subprocess.call, (program,), {"env": variables}) == 0
    assert sorted(data for _, data in peer.wait("anna", 3)) == ["child", "parent", "parent again"]
