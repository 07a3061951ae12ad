"""What a manager waits for, and what it keeps meanwhile."""

from __future__ import annotations

import json
import os
import signal
from datetime import timedelta
from typing import Any

import gevent
import pytest
from gevent import monkey

from pglisten import EventLog
from pglisten._socketio.outbox import LOCK_LIMIT
from pglisten.errors import ConfigurationError, Error, OperationTimeout
from pglisten.eventlog import broadcaster_of
from pglisten.socketio import PgManager
from pglisten.testing import Proxy
from support.fixtures.broadcasters import MakeBroadcaster
from support.fixtures.eventlogs import MakeLog
from support.fixtures.listeners import MakeConnection
from support.servers.server import Server
from support.socketio_peers import Peer
from support.timeouts import TIMEOUT

pytestmark = pytest.mark.any_backend

Behind = tuple[EventLog, Proxy]


def test_an_outage_does_not_fill_the_memory(
    log_behind_proxy: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    log, between = log_behind_proxy
    outside: Any = PgManager(log, write_only=True, timeout=0.1)
    patient = PgManager(log, write_only=True)
    outside.emit("first", 1)
    between.refuse()
    between.cut()
    queue = outside._process.outbox._queue
    callers = [gevent.spawn(outside.emit, "late", number) for number in range(50)]
    for caller in callers:
        with pytest.raises(OperationTimeout):
            caller.get(timeout=TIMEOUT)
    assert not queue
    for number in range(2):
        gevent.get_hub().loop.run_callback(outside.emit, "tick", number)
        gevent.sleep(0.15)
    # The first one has gone when the second one came.
    assert len(queue) == 1
    assert "a message was not sent: emit: not begun in time" in caplog.messages
    between.accept()
    patient.emit("next", 1)


def test_the_first_emit_of_a_process_waits_until_its_answer_is_not_missed(make_log: MakeLog) -> None:
    one, two = Peer(PgManager(make_log())), Peer(PgManager(make_log()))
    sid = two.connect("cleo")
    answers: list[str] = []
    asking = gevent.spawn(one.server.emit, "ask", room=sid, callback=answers.append)
    ((_, number),) = two.wait("cleo", 1)
    assert one.manager._process.reading.done
    two.acknowledge("cleo", number, "yes")
    asking.get(timeout=TIMEOUT)
    with gevent.Timeout(TIMEOUT):
        while not answers:
            gevent.sleep(0.002)
    assert answers == ["yes"]


def test_a_client_that_leaves_while_it_waits_is_not_kept(log_behind_proxy: Behind) -> None:
    log, between = log_behind_proxy
    between.refuse()
    peer = Peer(PgManager(log))
    connecting = gevent.spawn(peer.connect, "anna")
    gevent.idle()  # Now it waits.
    assert not connecting.dead
    peer.server._handle_eio_disconnect("anna", "transport close")
    between.accept()
    connecting.get(timeout=TIMEOUT)
    assert not peer.manager.rooms
    peer.connect("bela")
    assert [*peer.manager.rooms["/"][None].values()] == ["bela"]


def test_a_client_does_not_wait_for_what_will_not_come(make_log: MakeLog) -> None:
    log = make_log()
    peers = Peer(PgManager(make_log(), write_only=True)), Peer(PgManager(log))
    log.close()
    # Half of CONNECT_WAIT.
    with gevent.Timeout(5):
        for peer in peers:
            peer.connect("anna")
    # Where python-socketio runs this in a thread of the standard library, its error would be printed.
    peers[1].manager._thread()


def test_a_signal_handler_that_interrupts_the_sender_may_emit(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Peer(PgManager(make_log()))
    two.connect("bela")
    outside: Any = PgManager(make_log(), write_only=True)
    monkeypatch.setattr(outside._process.outbox, "_number", Interrupting(0))
    before = signal.signal(signal.SIGUSR1, lambda *_: outside.emit("signal", 1))
    try:
        outside.emit("first", 1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [name for name, _ in two.wait("bela", 2)] == ["first", "signal"]


class Interrupting(int):
    """A number that sends the process a signal when the sender adds to it."""

    def __add__(self, other: int) -> int:
        os.kill(os.getpid(), signal.SIGUSR1)
        return int(self) + other


def test_another_thread_is_refused_and_does_not_take_the_manager_over(make_log: MakeLog) -> None:
    peer, refused = Peer(PgManager(make_log())), []

    def use() -> None:
        for call in (peer.manager.initialize, lambda: peer.server.emit("lost", 1)):
            try:
                call()
            except Error as error:
                refused.append(str(error)[:30])

    thread = monkey.get_original("threading", "Thread")(target=use)
    thread.start()
    thread.join()
    assert refused == ["called from another OS thread "] * 2
    peer.connect("anna")
    peer.server.emit("next", 1)
    assert peer.wait("anna", 1) == [["next", 1]]


def test_a_server_that_takes_no_writes_is_named(
    server: Server, make_log: MakeLog, log_schema: str, make_broadcaster: MakeBroadcaster
) -> None:
    make_log()
    broadcaster = make_broadcaster(server.dsn(options="-c default_transaction_read_only=on"))
    outside = PgManager(EventLog("events", broadcaster, schema=log_schema), write_only=True, timeout=0.2)
    with pytest.raises(OperationTimeout, match=r"not done within 0\.2 s: .*read-only transaction"):
        outside.emit("late", 1)


def test_a_lock_on_the_log_stops_the_emits_and_not_the_notifications(
    server: Server, make_log: MakeLog, make_connection: MakeConnection
) -> None:
    peer = Peer(PgManager(make_log()))
    peer.connect("anna")
    peer.server.emit("first")
    locker = make_connection()
    broadcaster = broadcaster_of(peer.manager._log)
    ticks = broadcaster.subscribe("ticks")
    locker.execute(f"BEGIN; LOCK TABLE {peer.manager._log._names.entries} IN SHARE MODE", TIMEOUT)
    emitting = gevent.spawn(peer.server.emit, "second")
    gevent.idle()
    server.notify("ticks", "1")
    assert ticks.get(TIMEOUT) is not None
    outbox = peer.manager._process.outbox
    with gevent.Timeout(TIMEOUT):
        while outbox._lock_limit == LOCK_LIMIT:
            gevent.sleep(0.01)
    assert not emitting.dead
    locker.execute("ROLLBACK", TIMEOUT)
    emitting.get(timeout=TIMEOUT)
    assert (broadcaster.stats().reconnects, outbox._lock_limit) == (0, LOCK_LIMIT)
    peer.server.emit("third")
    assert [name for name, *_ in peer.wait("anna", 3)] == ["first", "second", "third"]


def test_json_may_be_bytes_and_retention_a_timedelta(make_log: MakeLog) -> None:
    class Bytes:
        loads = json.loads
        dumps = staticmethod(lambda data: json.dumps(data).encode())

    peer = Peer(PgManager(make_log(), retention=timedelta(seconds=60)))  # type: ignore[arg-type]
    peer.connect("anna")
    PgManager(make_log(), write_only=True, json=Bytes).emit("price", "é")
    assert peer.wait("anna", 1) == [["price", "é"]]
    assert peer.manager._retention == 60
    for wrong in (0, -1, "1m"):
        with pytest.raises(ConfigurationError, match="retention") as raised:
            PgManager(peer.manager._log, retention=wrong)  # type: ignore[arg-type]
        assert raised.value.option == "retention"
