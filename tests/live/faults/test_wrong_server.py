"""Both backends and a server that breaks the protocol: a clear error, nothing left, and another try."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator

import gevent
import pytest

from pglisten import (
    ConnectionFailed,
    ConnectionLost,
    Error,
    ListenerConnection,
    Notification,
    OperationTimeout,
    ServerError,
)
from support.fixtures.listeners import Events, MakeListener
from support.servers.fuzz import REPLIES, STARTUP, spoilt
from support.servers.wrong_server import (
    DONE,
    GOOD,
    KEY,
    READY,
    STATUS,
    WELCOME,
    Script,
    Then,
    authentication,
    error,
    message,
    notice,
    notification,
    wrong_server,
)
from support.timeouts import TIMEOUT

SHORT = 0.2
"""Seconds after which a call to a silent server ends."""

HEARTBEAT = 0.5
"""Seconds that are enough for an answer on a busy machine."""

FATAL = error("FATAL", "57P01", "terminating connection due to administrator command")

SENT_IN_REPLIES = (Notification(9771, "a", "x"), Notification(9771, "ü", "größer"))
"""The notifications in `REPLIES`."""

ROUNDS = 25
"""Spoilt conversations of each kind; the unit tests have more."""


@pytest.fixture(autouse=True)
def no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail if an ERROR is logged: it is a bug of the library, whatever the server did."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


def until_lost(connection: ListenerConnection) -> list[Notification]:
    """Return the notifications that come until the loss."""
    arrived: list[Notification] = []
    with gevent.Timeout(TIMEOUT), pytest.raises(ConnectionLost):
        arrived.extend(connection)
    return arrived


STARTS: dict[str, tuple[bytes | Then, ...]] = {
    "a web server's answer": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", Then.CLOSE),
    "a mail server's greeting": (b"220 mail.example.org ESMTP\r\n", Then.CLOSE),
    "an end": (Then.CLOSE,),
    "a reset": (Then.RESET,),
    "silence": (Then.HOLD,),
    "half a message": (authentication(0) + STATUS[:40], Then.CLOSE),
    "half a message and silence": (authentication(0) + STATUS[:40], Then.HOLD),
    "no ReadyForQuery": (authentication(0) + STATUS + KEY, Then.HOLD),
    "no authentication": (STATUS + KEY + READY, Then.HOLD),
    "ReadyForQuery alone": (READY, Then.HOLD),
    "a row": (authentication(0) + message(b"D", b"\0\0"), Then.CLOSE),
    "a message without its length": (b"R\0\0\0\0", Then.CLOSE),
    "a message of four gigabytes": (b"R\xff\xff\xff\xff", Then.CLOSE),
    "an error of a gigabyte": (b"E\x3f\xff\xff\xff" + bytes(100), Then.HOLD),
    "a setting of two gigabytes": (authentication(0) + b"S\x7f\xff\xff\xff" + bytes(100), Then.HOLD),
    "an unknown method": (authentication(99), Then.HOLD),
    "a challenge that is none": (
        authentication(10, b"SCRAM-SHA-256\0\0") + authentication(11, b"r=x"),
        Then.HOLD,
    ),
    "an error in another encoding": (error("FATAL", "28P01").replace(b"no", b"M\xfcller"), Then.CLOSE),
    "an error without an end": (b"E\0\0\0\x20SFATAL\0Mno", Then.CLOSE),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_wrong_start_is_one_failed_attempt(backend_name: str, start: str) -> None:
    with wrong_server(Script(startup=STARTS[start])) as server:
        started = time.monotonic()
        with pytest.raises(ConnectionFailed) as caught:
            ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=SHORT)
        assert time.monotonic() - started < SHORT + 10
        assert "\n" not in str(caught.value)
        assert "s3cret" not in str(caught.value)
        server.wait_until(lambda: not server.open)


def test_a_refusal_in_the_servers_own_encoding_keeps_its_sqlstate(backend_name: str) -> None:
    text = b"Passwort f\xfcr Benutzer \xbbapp\xab falsch"
    refusal = message(b"E", b"SFATAL\0VFATAL\0C28P01\0M" + text + b"\0\0")
    with wrong_server(Script(startup=(refusal, Then.CLOSE))) as server:
        with pytest.raises(ConnectionFailed, match=r"Passwort f\\xfcr Benutzer") as caught:
            ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        assert caught.value.sqlstate == "28P01"


ANSWERS: dict[str, tuple[bytes | Then, ...]] = {
    "an end": (Then.CLOSE,),
    "a reset": (Then.RESET,),
    "half an answer": (DONE[:7], Then.CLOSE),
    "half an answer and silence": (DONE[:7], Then.HOLD),
    "silence": (Then.HOLD,),
    "no ReadyForQuery": (message(b"C", b"LISTEN\0"), Then.HOLD),
    "a tag without its end": (b"C\0\0\0\x0aLISTEN", Then.CLOSE),
    "a row of another size": (message(b"T", b"\0\1x\0" + bytes(18)) + b"D\0\0\0\x08\0\2\0\0", Then.CLOSE),
    "a copy": (message(b"G", b"\0\0\0"), Then.HOLD),
    "an authentication": (authentication(3), Then.HOLD),
    "another protocol": (b"HTTP/1.1 400 Bad Request\r\n\r\n", Then.HOLD),
    "a notification of four gigabytes": (b"A\xff\xff\xff\xff", Then.HOLD),
    "a notification of a gigabyte": (b"A\x3f\xff\xff\xff" + bytes(100), Then.HOLD),
    "an error in another encoding": (FATAL.replace(b"connection", b"\xfc\xff\xfe\xfdection"), Then.CLOSE),
    "a fatal error": (FATAL, Then.HOLD),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_wrong_answer_ends_the_connection_once_for_all_callers(backend_name: str, answer: str) -> None:
    script = Script(answers=((DONE,), (notification(b"before"), *ANSWERS[answer])))
    with wrong_server(script) as server:
        connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        try:
            connection.execute("LISTEN orders", timeout=TIMEOUT)
            started = time.monotonic()
            with pytest.raises((ConnectionLost, OperationTimeout)):
                connection.ping(timeout=SHORT)
            assert time.monotonic() - started < SHORT + 10
            with pytest.raises(ConnectionLost) as caught:
                connection.execute("SELECT 1", timeout=TIMEOUT)
            assert "\n" not in str(caught.value)
            assert [item.payload for item in until_lost(connection)] in ([], ["before"])
            server.wait_until(lambda: not server.open)
        finally:
            connection.close()


IDLE: dict[str, tuple[bytes | Then, ...]] = {
    "an end": (Then.CLOSE,),
    "a reset": (Then.RESET,),
    "a fatal error": (FATAL, Then.CLOSE),
    "half a length": (notification()[:3],),
    "a notification of a gigabyte": (b"A\x3f\xff\xff\xff" + bytes(100),),
    "a notification of four gigabytes": (b"A\xff\xff\xff\xff",),
    "an error of a gigabyte": (b"E\x3f\xff\xff\xff" + bytes(100),),
    "nonsense": (b"\0\1\2\3\4\5\6\7",),
    "another protocol": (b"HTTP/1.1 400 Bad Request\r\n\r\n",),
}


@pytest.mark.parametrize("said", IDLE)
def test_a_listener_comes_back_from_what_is_said_unasked(
    backend_name: str, make_listener: MakeListener, said: str
) -> None:
    first = Script(answers=((DONE, notification(b"1"), notice(), notification(b"2"), *IDLE[said]),))
    events = Events()
    with wrong_server(first, GOOD) as server:
        # Only the heartbeat detects a message that never ends: its answer becomes a part of the message.
        listener = make_listener(
            server.dsn(), event_callback=events, heartbeat_interval=HEARTBEAT, heartbeat_timeout=HEARTBEAT
        )
        listener.wait_connected(TIMEOUT)
        listener.listen("orders", timeout=TIMEOUT)
        assert [listener.get(timeout=TIMEOUT) for _ in range(3)] == [
            Notification(1, "orders", "1"),
            Notification(1, "orders", "2"),
            None,
        ]
        server.say(notification(b"3"))
        assert listener.get(timeout=TIMEOUT) == Notification(1, "orders", "3")
        events.wait_for("CONNECTED", "DISCONNECTED", "RECONNECTED")
        assert server.connections == 2
        listener.close()
        server.wait_until(lambda: not server.open)


def test_a_listener_tries_until_a_server_speaks_the_protocol(
    backend_name: str, make_listener: MakeListener
) -> None:
    wrong = [Script(startup=start) for start in STARTS.values() if Then.HOLD not in start]
    events = Events()
    with wrong_server(*wrong, GOOD) as server:
        listener = make_listener(
            server.dsn(), event_callback=events, max_reconnect_interval=0.02, connect_timeout=TIMEOUT
        )
        listener.listen("orders", timeout=TIMEOUT)
        events.wait_for("CONNECTED")
        assert events.names == ["CONNECTION_ATTEMPT_FAILED"] * len(wrong) + ["CONNECTED"]
        assert all(isinstance(failure, ConnectionFailed) for _, failure in events[:-1])
        assert listener.stats().failed_attempts == len(wrong)


def test_a_spoilt_start_up_is_a_failed_attempt_or_none(backend_name: str) -> None:
    for number in range(ROUNDS):
        rng = random.Random(number)
        with wrong_server(Script(startup=(spoilt(rng, STARTUP), Then.CLOSE))) as server:
            try:
                connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
            except ConnectionFailed:
                continue
            assert until_lost(connection) == []
            assert isinstance(connection.error, ConnectionLost)
            connection.close()


def test_a_spoilt_answer_is_an_error_or_none_and_invents_no_notification(
    backend_name: str,
) -> None:
    sent = [Notification(1, "orders", "1"), Notification(1, "orders", "2")]
    for number in range(ROUNDS):
        rng = random.Random(number)
        reply = spoilt(rng, rng.choice([REPLIES[0], *REPLIES[2:]]))
        script = Script(answers=((notification(b"1"), reply, notification(b"2"), Then.CLOSE),))
        with wrong_server(script) as server:
            connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
            failed: Error | None = None
            try:
                connection.execute("SELECT 1", timeout=TIMEOUT)
            except (ConnectionLost, ServerError) as exc:
                failed = exc
            # A reply may have been spoilt with another that had notifications in it: sent as well.
            arrived = [item for item in until_lost(connection) if item not in SENT_IN_REPLIES]
            assert arrived == sent[: len(arrived)], (number, reply, failed)
            assert isinstance(connection.error, ConnectionLost)
            connection.close()


def test_nothing_is_taken_for_an_answer_that_comes_before_the_question(backend_name: str) -> None:
    with wrong_server(Script(startup=(WELCOME + notice() + notification(b"0"),))) as server:
        connection = ListenerConnection(server.dsn(), backend=backend_name, connect_timeout=TIMEOUT)
        assert connection.get(timeout=TIMEOUT) == Notification(1, "orders", "0")
        server.say(DONE)
        try:
            connection.execute("SELECT 1", timeout=TIMEOUT)
            assert server.queries == [b"SELECT 1"]
        except ConnectionLost:
            pass
        connection.close()
