"""The pg8000 backend's protocol parser when it collects the rows of a reply."""

from __future__ import annotations

import struct

import pytest

from pglisten.backend import MAX_RESULT
from pglisten.errors import ConnectionLost
from pglisten_pg8000._rows import Rows
from pglisten_pg8000._wire import State, WireProtocol
from support.servers.wrong_server import READY, error, message, notification

CHUNK = 32768

EMPTY = message(b"I")
TAG = message(b"C", b"SELECT 1\0")


def described(columns: int) -> bytes:
    return message(b"T", struct.pack("!H", columns) + (b"x\0" + bytes(18)) * columns)


def row(*values: bytes | None) -> bytes:
    fields = (
        b"\xff\xff\xff\xff" if value is None else struct.pack("!I", len(value)) + value for value in values
    )
    return message(b"D", struct.pack("!H", len(values)) + b"".join(fields))


def asked() -> tuple[WireProtocol, Rows]:
    protocol, rows = WireProtocol(), Rows()
    protocol.query("select", rows)
    return protocol, rows


REPLY = b"".join(
    [
        described(1) + row(b"of the first statement") + TAG,
        notification(b"between"),
        described(2) + row("é".encode(), None) + notification(b"within") + row(b"", b"caf\xe9") + TAG,
        READY,
    ]
)
ROWS = [("é", None), ("", "caf\ufffd")]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, len(REPLY)])
def test_the_last_statements_rows_are_returned_however_the_reply_is_cut(size: int) -> None:
    protocol, rows = asked()
    for at in range(0, len(REPLY), size):
        protocol.feed(REPLY[at : at + size])
    assert rows.result() == ROWS
    assert [each.payload for each in protocol.take_notifications()] == ["between", "within"]
    assert protocol.state is State.IDLE


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (described(1) + row(b"x") + TAG + message(b"C", b"LISTEN\0"), []),
        (described(1) + row(b"x") + TAG + described(1) + message(b"C", b"SELECT 0\0"), []),
        (message(b"C", b"LISTEN\0") + described(1) + row(b"x") + TAG, [("x",)]),
        (described(0) + row() + row() + TAG, [(), ()]),
        (EMPTY, []),
    ],
)
def test_rows_are_those_of_the_last_statement_alone(reply: bytes, expected: list[tuple[str, ...]]) -> None:
    protocol, rows = asked()
    protocol.feed(reply + READY)
    assert rows.result() == expected


def test_rows_before_an_error_do_not_hide_it() -> None:
    protocol, _ = asked()
    protocol.feed(described(1) + row(b"x") + error() + READY)
    refusal = protocol.take_refusal()
    assert refusal is not None
    assert refusal.sqlstate == "42601"


def test_the_next_query_discards_its_rows_again() -> None:
    protocol, rows = asked()
    protocol.feed(REPLY)
    protocol.query("select")
    protocol.feed(described(1) + row(bytes(100)) + b"D\x3f\xff\xff\xff")
    assert rows.result() == ROWS
    assert not protocol._partial


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (message(b"T"), "malformed RowDescription"),
        (message(b"T", b"\0"), "malformed RowDescription"),
        (row(b"x"), "row without a RowDescription"),
        (described(1) + TAG + row(b"x"), "row without a RowDescription"),
        (described(1) + row(b"x", b"y"), "malformed row"),
        (described(2) + row(b"x"), "malformed row"),
        (described(1) + message(b"D"), "malformed row"),
        (described(1) + message(b"D", b"\xff\xff"), "malformed row"),
        (described(1) + message(b"D", b"\0\1"), "malformed row"),
        (described(1) + message(b"D", b"\0\1\0\0"), "malformed row"),
        (described(1) + message(b"D", b"\0\1\0\0\0\2x"), "malformed row"),
        (described(1) + message(b"D", b"\0\1\0\0\0\1xy"), "malformed row"),
        (described(1) + message(b"D", b"\0\1\xff\xff\xff\xfe"), "malformed row"),
        (described(1) + message(b"D", b"\0\1\x7f\xff\xff\xffx"), "malformed row"),
        (described(1) + message(b"D", b"\0\0"), "malformed row"),
        (message(b"T", b"\xff\xff") + message(b"D", b"\xff\xff" + bytes(65535 * 4 - 1)), "malformed row"),
        (described(1) + b"D\x3f\xff\xff\xff", f"more than {MAX_RESULT} bytes"),
        (described(1) + b"D\xff\xff\xff\xff", "type D with 4294967295 bytes"),
    ],
)
def test_rows_that_are_malformed_end_the_connection(broken: bytes, complaint: str) -> None:
    protocol, _ = asked()
    with pytest.raises(ConnectionLost, match=complaint):
        protocol.feed(notification() + broken)
    assert len(protocol.take_notifications()) == 1


@pytest.mark.parametrize("size", [1000, 100_000])
def test_the_limit_counts_all_rows_of_a_statement(size: int) -> None:
    one = row(b"x" * size)
    protocol, rows = asked()
    protocol.feed(described(1))
    for _ in range(MAX_RESULT // len(one)):
        protocol.feed(one)
    assert protocol.state is State.BUSY
    with pytest.raises(ConnectionLost, match=str(MAX_RESULT)):
        protocol.feed(one)
    assert len(rows.result()) == MAX_RESULT // len(one)


def test_a_row_that_is_too_long_is_refused_before_it_arrives() -> None:
    protocol, _ = asked()
    protocol.feed(described(1))
    with pytest.raises(ConnectionLost, match=str(MAX_RESULT)):
        protocol.feed(b"D" + struct.pack("!I", MAX_RESULT))
    assert not protocol._partial


def test_the_longest_possible_row_description_is_not_kept() -> None:
    protocol, _ = asked()
    huge = described(65535)
    for at in range(0, len(huge), CHUNK):
        protocol.feed(huge[at : at + CHUNK])
        assert len(protocol._partial) < 8
