"""The pg8000 backend's protocol parser: no server, no socket, no gevent."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pglisten.backend import Notification
from pglisten.errors import ConnectionLost
from pglisten_pg8000._wire import KEPT_OF_ERROR, MAX_NOTIFICATION, NEXT_STATE, State, WireProtocol

CHUNK = 32768
"""The longest piece, in bytes, that the session feeds at once."""

QUICK = settings(deadline=None, max_examples=40)
"""All unit tests together take two seconds. A longer search found no other failures."""

READY = b"Z\0\0\0\x05I"


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def notification(payload: bytes = b"hello", channel: bytes = b"orders", pid: int = 4711) -> bytes:
    return message(b"A", struct.pack("!i", pid) + channel + b"\0" + payload + b"\0")


def error(severity: str = "ERROR", sqlstate: str = "42601", text: str = "no", kind: bytes = b"E") -> bytes:
    fields = f"S{severity.lower()}\0V{severity}\0C{sqlstate}\0M{text}\0\0"
    return message(kind, fields.encode())


FATAL = error("FATAL", "57P01", "terminating connection due to administrator command")
WARNING = error("WARNING", "57P02", "because of crash of another server process", b"N")

Completion = tuple[list[Notification], "str | None", State, "str | None", "str | None"]


def run(pieces: list[bytes], *, busy: bool) -> Completion:
    """Feed *pieces* and return everything that is visible from outside."""
    protocol = WireProtocol()
    if busy:
        protocol.query("select 1")
    lost = sqlstate = None
    try:
        for piece in pieces:
            protocol.feed(piece)
            assert len(protocol._partial) <= 1 + MAX_NOTIFICATION + CHUNK
    except ConnectionLost as exc:
        lost, sqlstate = str(exc), exc.sqlstate
    refusal = protocol.take_refusal()
    return (
        protocol.take_notifications(),
        None if refusal is None else str(refusal),
        protocol.state,
        lost,
        sqlstate,
    )


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[a:b] for a, b in pairwise(ends)]


text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=40).map(str.encode)
notifications = st.builds(notification, text, text, st.integers(-(2**31), 2**31 - 1))
asynchronous = st.one_of(
    notifications,
    st.sampled_from([message(b"S", b"TimeZone\0UTC\0"), error("NOTICE", "00000", "hm", b"N"), WARNING]),
)
replies = st.sampled_from(
    [
        message(b"T", b"\0\x01" + bytes(30)),
        message(b"D", b"\0\x01" + bytes(9000)),
        message(b"D", b""),
        message(b"C", b"SELECT 1\0"),
        message(b"I"),
        error(),
        error(text="x" * 20_000),
    ]
)
endings = st.sampled_from(
    [b"", FATAL, error("PANIC", "XX000"), error(), b"A\0\0", message(b"G", b"\0\0\0"), b"?????"]
)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Make a reply with other messages in it, messages after it, and perhaps the end of the session."""
    parts = draw(st.lists(st.one_of(asynchronous, replies), max_size=12))
    after = draw(st.lists(asynchronous, max_size=6))
    return b"".join([*parts, READY, *after, draw(endings)])


CONVERSATION = b"".join(
    [
        notification("Ünïcödé €".encode()),
        message(b"T", b"\0\x01" + bytes(30)),
        message(b"D", bytes(50)),
        notification(b""),
        error(text="x" * 60),
        message(b"C", b"SELECT 1\0"),
        READY,
        notification(b"later"),
        FATAL,
        b"what follows is not looked at",
    ]
)


def test_a_stream_cut_at_any_two_places_gives_the_same_as_the_whole() -> None:
    whole = run([CONVERSATION], busy=True)
    assert [n.payload for n in whole[0]] == ["Ünïcödé €", "", "later"]
    assert whole[4] == "57P01"
    for place in range(len(CONVERSATION)):
        assert run(cut(CONVERSATION, [place, place + 7]), busy=True) == whole


@given(conversations(), st.lists(st.integers(0, 2**20), max_size=20))
@QUICK
def test_any_conversation_cut_anywhere_gives_the_same_as_the_whole(stream: bytes, places: list[int]) -> None:
    assert run(cut(stream, places), busy=True) == run([stream], busy=True)


@given(st.lists(notifications, max_size=5))
@QUICK
def test_notifications_fed_byte_by_byte_arrive_complete_and_in_order(sent: list[bytes]) -> None:
    stream = b"".join(sent)
    arrived, _, state, lost, _ = run([stream[i : i + 1] for i in range(len(stream))], busy=False)
    assert (len(arrived), state, lost) == (len(sent), State.IDLE, None)
    assert arrived == run([stream], busy=False)[0]


@given(st.binary(max_size=400), st.booleans(), st.lists(st.integers(0, 400), max_size=8))
@QUICK
@example(stream=b"A\xff\xff\xff\xff\0\0\0\0", busy=False, places=[])
@example(stream=b"A\0\0\0\x08\0\0\0\0", busy=False, places=[])
@example(stream=b"D\0\0\0\0", busy=True, places=[])
def test_random_bytes_do_nothing_worse_than_end_the_connection(
    stream: bytes, busy: bool, places: list[int]
) -> None:
    assert run(cut(stream, places), busy=busy) == run([stream], busy=busy)


@given(
    conversations(),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), min_size=1, max_size=4),
    st.lists(st.integers(0, 2**20), max_size=8),
)
@QUICK
def test_a_damaged_conversation_does_nothing_worse_than_end_the_connection(
    stream: bytes, damages: list[tuple[int, int]], places: list[int]
) -> None:
    damaged = bytearray(stream)
    for place, value in damages:
        damaged[place % len(damaged)] = value
    assert run(cut(bytes(damaged), places), busy=True) == run([bytes(damaged)], busy=True)


@pytest.mark.parametrize("state", [State.IDLE, State.BUSY])
def test_a_message_that_is_not_in_the_table_ends_the_connection(state: State) -> None:
    bodies = {b"A"[0]: notification()[5:], b"Z"[0]: b"I", b"E"[0]: error()[5:]}
    for kind in range(256):
        stream = message(bytes([kind]), bodies.get(kind, b""))
        *_, after, lost, _ = run([stream], busy=state is State.BUSY)
        expected = NEXT_STATE.get((state, kind), State.ENDED)
        assert (chr(kind), after, lost is None) == (chr(kind), expected, expected is not State.ENDED)


@pytest.mark.parametrize(
    ("stream", "busy", "complaint"),
    [
        (b"A\0\x02\0\x09", False, "malformed notification"),
        (b"A\xff\xff\xff\xff", False, "malformed notification"),
        (message(b"A", b"\0\0\0\x01no end"), False, "malformed notification"),
        (message(b"A", b"\0\0\0\x01a\0b\0c\0"), False, "malformed notification"),
        (message(b"Z", b"?"), True, "malformed ReadyForQuery"),
        (b"Z\0\0\0\x06", True, "type Z with 6 bytes"),
        (b"D\0\0\0\x03", True, "type D with 3 bytes"),
        (b"E\x50\0\0\0", False, "type E with"),
        (b"C\0\0\0\x0a", False, "type 'C' while idle"),
        (b"\0\0\0\0\0", False, r"type '\\x00' while idle"),
        (message(b"G", b"\0\0\0"), True, "COPY"),
        (message(b"H", b"\0\0\0"), True, "COPY"),
    ],
)
def test_the_error_names_the_violation(stream: bytes, busy: bool, complaint: str) -> None:
    protocol = WireProtocol()
    if busy:
        protocol.query("x")
    with pytest.raises(ConnectionLost, match=complaint):
        protocol.feed(stream)
    with pytest.raises(ConnectionLost, match=complaint):
        protocol.feed(READY)


def test_the_longest_possible_notification_passes() -> None:
    payload = b"x" * (MAX_NOTIFICATION - 8 - 2 - 6)
    pieces = cut(notification(payload), list(range(0, MAX_NOTIFICATION, CHUNK)))
    (arrived,), *_ = run(pieces, busy=False)
    assert arrived == Notification(4711, "orders", payload.decode())


def test_a_payload_that_is_not_utf_8_gets_replacement_characters() -> None:
    (arrived,), *_ = run([notification(b"caf\xe9!")], busy=False)
    assert arrived.payload == "caf\ufffd!"


def test_a_row_of_a_hundred_megabytes_is_not_kept() -> None:
    protocol = WireProtocol()
    protocol.query("select repeat('x', 100000000)")
    protocol.feed(b"D" + struct.pack("!I", 100_000_004))
    piece = bytes(1_000_000)
    for _ in range(100):
        protocol.feed(piece)
        assert not protocol._partial
    protocol.feed(READY + notification())
    assert (protocol.state, len(protocol.take_notifications())) == (State.IDLE, 1)


def test_only_the_beginning_of_a_huge_error_is_kept() -> None:
    stream = error(text="x" * 3_000_000) + READY
    protocol = WireProtocol()
    protocol.query("select x")
    for at in range(0, len(stream), CHUNK):
        protocol.feed(stream[at : at + CHUNK])
        assert len(protocol._partial) <= KEPT_OF_ERROR + CHUNK
    refusal = protocol.take_refusal()
    assert refusal is not None
    assert refusal.sqlstate == "42601"
    assert KEPT_OF_ERROR - 100 < len(refusal.message) < KEPT_OF_ERROR


def test_the_first_error_of_a_reply_is_the_one_reported_once() -> None:
    protocol = WireProtocol()
    protocol.query("select x")
    protocol.feed(error(text="first") + error(text="second") + READY)
    refusal = protocol.take_refusal()
    assert refusal is not None
    assert refusal.message == "first"
    assert protocol.take_refusal() is None


def test_an_error_has_the_servers_detail_and_hint() -> None:
    protocol = WireProtocol()
    protocol.query("select x")
    protocol.feed(message(b"E", b"VERROR\0C42P01\0Mno\0Dbecause\0Htry\0\0") + READY)
    refusal = protocol.take_refusal()
    assert refusal is not None
    assert (refusal.severity, refusal.detail, refusal.hint) == ("ERROR", "because", "try")


@pytest.mark.parametrize("busy", [False, True])
def test_fatal_ends_the_session_with_its_reason(busy: bool) -> None:
    arrived, _, state, lost, sqlstate = run([notification() + FATAL + notification()], busy=busy)
    assert (len(arrived), state, sqlstate) == (1, State.ENDED, "57P01")
    assert lost == "terminating connection due to administrator command"


def test_the_untranslated_severity_counts() -> None:
    stream = message(b"E", b"SSCHWERWIEGEND\0VFATAL\0C57P01\0MSchluss\0\0")
    assert run([stream], busy=False)[4] == "57P01"


def test_a_pooler_without_the_untranslated_severity_is_understood() -> None:
    assert run([message(b"E", b"SFATAL\0C08P01\0Mclosed\0\0")], busy=False)[4] == "08P01"


@pytest.mark.parametrize("last_words", [WARNING, error("ERROR", "57P02")])
def test_the_servers_last_message_is_the_reason_of_the_loss(last_words: bytes) -> None:
    protocol = WireProtocol()
    protocol.feed(last_words)
    assert protocol.end().sqlstate == "57P02"


def test_an_earlier_warning_is_not_the_reason_once_the_session_continues() -> None:
    protocol = WireProtocol()
    protocol.feed(WARNING)
    protocol.query("select 1")
    protocol.feed(READY)
    lost = protocol.end()
    assert (str(lost), lost.sqlstate) == ("server closed the connection unexpectedly", None)


def test_a_query_is_sent_as_utf_8_with_its_length() -> None:
    assert WireProtocol().query("é") == b"Q\0\0\0\x07\xc3\xa9\0"
