"""The pg8000 backend with servers that send wrong data, are slow, or speak another protocol.

Also the settings that it refuses.
"""

from __future__ import annotations

import socket as numbers
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

import gevent
import pytest
from gevent import socket
from gevent.event import Event

from pglisten.backend import ConnInfo, Deadline, DeadlinePassed
from pglisten.errors import ConfigurationError, ConnectionFailed
from pglisten_pg8000 import Pg8000Backend
from pglisten_pg8000._failure import StartupFailed
from pglisten_pg8000._startup import _in_thread, _log_in, _Stream
from pglisten_pg8000._transport import Transport
from support.fixtures.pg8000_sessions import (
    WELCOME,
    authentication,
    connect_to,
    message,
    read_exactly,
    read_message,
    read_startup,
    scripted,
    until_hung_up,
)
from support.servers.wrong_server import error
from support.timeouts import TIMEOUT

SSL_REQUEST = (80877103).to_bytes(4, "big")


def after_startup(*answers: bytes) -> Callable[[socket.socket], object]:
    """Answer the start-up message and each later message; close when the backend closes."""

    def script(client: socket.socket) -> None:
        read_startup(client)
        for answer in answers[:-1]:
            client.sendall(answer)
            read_message(client)
        client.sendall(answers[-1])
        until_hung_up(client)

    return script


@pytest.mark.parametrize(
    ("said", "told"),
    [(error("FATAL", "53300", "sorry"), "sorry"), (b"", "reset|pipe")],
    ids=["something", "nothing"],
)
def test_the_servers_last_message_is_the_reason_even_if_sending_fails(said: bytes, told: str) -> None:
    dialled, gone = Event(), Event()

    def script(client: socket.socket) -> None:
        assert dialled.wait(TIMEOUT)
        client.sendall(said)
        client.setsockopt(numbers.SOL_SOCKET, numbers.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        gone.set()

    with scripted(script) as dsn:
        conninfo = ConnInfo.parse(dsn, {"HOME": "/nowhere", "PGHOSTADDR": "127.0.0.1"})
        transport = Transport.connect(conninfo, Deadline(TIMEOUT))
        dialled.set()
        try:
            assert gone.wait(TIMEOUT)
            with pytest.raises(StartupFailed, match=f"(?i){told}"):
                _log_in(conninfo, _Stream(transport, Deadline(TIMEOUT)))
        finally:
            transport.close()


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n"], "does not speak PostgreSQL"),
        # pg8000 before 1.31.5 treats a negative length as 0.
        ([b"R\xff\xff\xff\xff"], "does not speak PostgreSQL|malformed request"),
        ([b"R\0\0\0\3"], "does not speak PostgreSQL|malformed request"),
        ([b"?\0\0\0\4"], "start-up failed: KeyError"),
        ([message(b"R")], "malformed request for authentication"),
        ([authentication(7)], "GSSAPI"),
        ([authentication(99)], r"unknown method \(99\)"),
        ([authentication(5, b"ab")], "start-up failed"),
        ([authentication(10, b"KERBEROS_V6\0\0")], "KERBEROS_V6"),
        ([authentication(11, b"r=x")], "before its start"),
        ([authentication(12, b"v=x")], "before its start"),
        ([authentication(10, b"SCRAM-SHA-256\0\0"), authentication(11, b"r=x,s=x,i=x")], "nonce"),
        ([authentication(10, b"SCRAM-SHA-256\0\0"), authentication(12, b"v=x")], "failed to prove"),
        ([authentication(10, b"SCRAM-SHA-256\0\0"), WELCOME], "broke off the SCRAM exchange"),
        ([message(b"E", b"SFATAL\0C53300\0Mtoo\nmany\0\0")], "too many"),
    ],
)
def test_a_wrong_answer_is_one_clear_failure(answers: list[bytes], complaint: str) -> None:
    with scripted(after_startup(*answers)) as dsn:
        with pytest.raises(ConnectionFailed, match=complaint) as caught:
            connect_to(dsn)
        assert "s3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_data_before_the_tls_handshake_never_counts() -> None:
    def inject(client: socket.socket) -> None:
        assert read_startup(client) == SSL_REQUEST
        client.sendall(b"S" + WELCOME)
        until_hung_up(client)

    with (
        scripted(inject, sslmode="require") as dsn,
        pytest.raises(ConnectionFailed, match="TLS handshake failed"),
    ):
        connect_to(dsn)


def test_an_error_in_answer_to_the_request_for_tls_is_not_repeated_to_the_user() -> None:
    def refuse(client: socket.socket) -> None:
        assert read_startup(client) == SSL_REQUEST
        client.sendall(message(b"E", b"SFATAL\0C00000\0Mhand over your password\0\0"))
        until_hung_up(client)

    with (
        scripted(refuse, sslmode="require") as dsn,
        pytest.raises(ConnectionFailed, match="did not understand"),
    ):
        connect_to(dsn)


def test_a_server_without_tls_is_refused_by_require_and_used_by_prefer() -> None:
    def decline(client: socket.socket) -> None:
        assert read_startup(client) == SSL_REQUEST
        client.sendall(b"N")
        if client.recv(4, socket.MSG_PEEK):
            read_startup(client)
            client.sendall(WELCOME)
            client.recv(1)

    with (
        scripted(decline, sslmode="require") as dsn,
        pytest.raises(ConnectionFailed, match="does not do TLS"),
    ):
        connect_to(dsn)
    with scripted(decline, sslmode="prefer") as dsn:
        connect_to(dsn).close()


def test_direct_tls_begins_with_the_handshake() -> None:
    def look(client: socket.socket) -> None:
        assert read_exactly(client, 1) == b"\x16", "a TLS record of type handshake"

    direct = {"sslmode": "require", "sslnegotiation": "direct"}
    with scripted(look, **direct) as dsn, pytest.raises(ConnectionFailed, match="TLS handshake failed"):
        connect_to(dsn)


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
@pytest.mark.parametrize("said", [b"", b"N", b"R\0\0"])
def test_a_server_that_falls_silent_fails_at_the_deadline(sslmode: str, said: bytes) -> None:
    def fall_silent(client: socket.socket) -> None:
        client.sendall(said)
        until_hung_up(client)

    with scripted(fall_silent, sslmode=sslmode) as dsn, pytest.raises(ConnectionFailed):
        connect_to(dsn, 0.2)


def test_a_server_that_sends_byte_after_byte_fails_at_the_deadline() -> None:
    def dribble(client: socket.socket) -> None:
        with suppress(OSError):  # EPIPE or ECONNRESET after the backend has closed.
            while True:
                client.sendall(message(b"N", b"SNOTICE\0\0"))
                gevent.sleep(0.01)

    with scripted(dribble) as dsn, pytest.raises(ConnectionFailed, match=r"no answer within 0\.2 s"):
        connect_to(dsn, 0.2)


def test_the_hub_runs_while_a_password_is_hashed() -> None:
    hashed = threading.Event()
    gevent.spawn(hashed.set)  # Runs only if the hub is not blocked.
    assert _in_thread(lambda: hashed.wait(TIMEOUT), Deadline(TIMEOUT)).get()


def test_hashing_ends_with_the_deadline() -> None:
    hashed = threading.Event()
    with pytest.raises(DeadlinePassed):
        _in_thread(hashed.wait, Deadline(0.05))
    hashed.set()


@pytest.mark.parametrize(
    "setting",
    [
        "gssencmode=require",
        "requirepeer=postgres",
        "require_auth=md5",
        "sslcertmode=require",
        "krbsrvname=other",
        "sslcompression=1",
        "ssl_min_protocol_version=TLSv1.1",
        "sslmode=verify-full sslrootcert=system host='' hostaddr=127.0.0.1",
    ],
)
def test_a_setting_that_could_only_be_ignored_is_refused(setting: str) -> None:
    conninfo = ConnInfo.parse(f"host=db.example.org {setting}", {})
    with pytest.raises(ConfigurationError, match=setting.split(maxsplit=1)[0].split("=", maxsplit=1)[0]):
        Pg8000Backend().check(conninfo)


@pytest.mark.parametrize(
    "setting",
    [
        "gssencmode=prefer",
        "sslcertmode=disable",
        "sslcompression=0",
        "sslsni=0",
        "keepalives=0",
        "sslmode=verify-full sslrootcert=system sslsni=0",
    ],
)
def test_a_setting_without_effect_is_accepted(setting: str) -> None:
    Pg8000Backend().check(ConnInfo.parse(f"host=db.example.org {setting}", {}))
