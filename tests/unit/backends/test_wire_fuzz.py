"""The pg8000 backend's protocol parser on damaged streams, compared with a simple parser."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pglisten.backend import MAX_RESULT
from pglisten.errors import ConnectionLost
from pglisten_pg8000._rows import Rows
from pglisten_pg8000._wire import KEPT_OF_ERROR, MAX_NOTIFICATION, State, WireProtocol
from support.servers.fuzz import REPLIES, pieces, seeds, spoilt
from support.servers.wrong_server import error, message, notice, notification, status

CHUNK = 32768
"""The longest piece, in bytes, that the session feeds at once."""

HUGE = 0x3FFFFFFF
"""The longest message that a server can send, in bytes."""

NO_COMPLAINT, VIOLATION = None, "violation"


@dataclass
class Seen:
    """The result of a stream, from the parser under test or from the simple one."""

    notifications: list[tuple[int, str, str]] = field(default_factory=list)
    rows: list[tuple[str | None, ...]] | None = None
    refusal: str | None = None
    ready: bool = False
    ended: str | None = NO_COMPLAINT


class Simple:
    """Parses one message at a time, without regard to speed. A wrong message raises any exception."""

    def __init__(self, *, wanted: bool) -> None:
        self.seen = Seen(rows=[] if wanted else None)
        self.columns: int | None = None
        self.size = 0

    def read(self, stream: bytes) -> Seen:
        try:
            while len(stream) >= 5:
                kind, length = stream[:1], int.from_bytes(stream[1:5], "big")
                if not self.check(kind, length - 4, stream[5 : length + 1]):
                    break
                stream = stream[1 + length :]
        except (AssertionError, IndexError, ValueError):
            self.seen.ended = VIOLATION
        except EOFError as exc:
            self.seen.ended = str(exc)
        return self.seen

    def check(self, kind: bytes, size: int, body: bytes) -> bool:
        """Check a message by its type and size, then by its body; return whether it is complete."""
        assert kind in (b"ANSE" if self.seen.ready else b"ANSECDITZ")
        assert 0 <= size <= {b"C": 1024, b"I": 0, b"Z": 1, b"A": MAX_NOTIFICATION - 4}.get(kind, HUGE)
        if kind == b"D" and self.seen.rows is not None:
            assert self.columns is not None
            assert self.size + 5 + size <= MAX_RESULT
        assert kind != b"A" or size > 5
        complete = len(body) == size
        if complete or (kind in b"EN" and len(body) >= KEPT_OF_ERROR) or (kind == b"T" and len(body) >= 2):
            self.act(kind, body)
        return complete

    def act(self, kind: bytes, body: bytes) -> None:
        if kind == b"A":
            channel, payload, rest = body[4:].decode("utf-8", "replace").split("\0")
            assert rest == ""
            pid = int.from_bytes(body[:4], "big", signed=True)
            self.seen.notifications.append((pid, channel, payload))
        elif kind == b"Z":
            assert body in (b"I", b"T", b"E")
            self.seen.ready = True
        elif kind == b"E":
            fields = {part[:1]: part[1:] for part in reversed(body[:KEPT_OF_ERROR].split(b"\0"))}
            severity = fields.get(b"V") or fields.get(b"S", b"ERROR")
            sqlstate = fields.get(b"C", b"XX000").decode("utf-8", "replace")
            if severity in (b"FATAL", b"PANIC"):
                raise EOFError(sqlstate)
            if not self.seen.ready and self.seen.refusal is None:
                self.seen.refusal = sqlstate
        elif self.seen.rows is not None:
            self.result(kind, body)

    def result(self, kind: bytes, body: bytes) -> None:
        if kind == b"T":
            self.columns, self.seen.rows, self.size = body[0] << 8 | body[1], [], 0
        elif kind == b"D":
            assert self.seen.rows is not None
            self.seen.rows.append(self.row(body))
            self.size += 5 + len(body)
        elif kind == b"C":
            if self.columns is None:
                self.seen.rows = []
            self.columns = None

    def row(self, body: bytes) -> tuple[str | None, ...]:
        count, rest = body[0] << 8 | body[1], body[2:]
        assert count == self.columns
        values: list[str | None] = []
        for _ in range(count):
            assert len(rest) >= 4
            length = int.from_bytes(rest[:4], "big", signed=True)
            assert -1 <= length <= len(rest) - 4
            values.append(None if length == -1 else rest[4 : 4 + length].decode("utf-8", "replace"))
            rest = rest[4 + max(0, length) :]
        assert rest == b""
        return tuple(values)


def read(parts: list[bytes], *, wanted: bool) -> Seen:
    """Feed *parts*, the reply to a query, to the parser under test."""
    rows = Rows() if wanted else None
    seen, protocol = Seen(), WireProtocol()
    protocol.query("select 1", rows)
    try:
        for part in parts:
            protocol.feed(part)
            assert len(protocol._partial) <= CHUNK + max(1 + MAX_NOTIFICATION, MAX_RESULT if wanted else 0)
    except ConnectionLost as exc:
        seen.ended = VIOLATION if exc.sqlstate is None else exc.sqlstate
    seen.notifications = [(*each,) for each in protocol.take_notifications()]
    refusal = protocol.take_refusal()
    seen.refusal = None if refusal is None else refusal.sqlstate
    seen.rows = None if rows is None else rows.result()
    seen.ready = protocol.state is State.IDLE
    return seen


def agree(stream: bytes, parts: list[bytes], *, wanted: bool) -> None:
    expected, seen = Simple(wanted=wanted).read(stream), read(parts, wanted=wanted)
    if expected.ended is not None:
        expected.ready = seen.ready = False  # The session is over.
    if not expected.ready:
        expected.rows = seen.rows = None  # Only complete rows are used.
    assert seen == expected


@pytest.mark.parametrize("reply", range(len(REPLIES)))
@pytest.mark.parametrize("wanted", [False, True])
def test_the_simple_parser_reads_recorded_replies(reply: int, wanted: bool) -> None:
    stream = b"".join(REPLIES[reply])
    agree(stream, [stream], wanted=wanted)
    seen = Simple(wanted=wanted).read(stream)
    assert seen.ended == ("57P01" if reply == len(REPLIES) - 1 else None)
    assert [payload for _, _, payload in seen.notifications] == (["x", "größer"] if reply == 1 else [])
    if wanted and reply == 3:
        assert seen.rows == [("a", None), ("b", "é")]


@pytest.mark.parametrize("wanted", [False, True])
def test_a_damaged_reply_is_read_as_the_simple_parser_reads_it(wanted: bool) -> None:
    for seed, rng in seeds():
        valid = [*rng.choice(REPLIES), *rng.choice([[], [notification(b"later")] * 3])]
        stream = spoilt(rng, valid)
        try:
            agree(stream, pieces(rng, stream), wanted=wanted)
        except BaseException:
            print(f"PGLISTEN_TEST_FUZZ_SEED={seed}: {stream!r}")
            raise


_bodies = st.binary(max_size=60)
_anything = st.one_of(
    st.builds(message, st.sampled_from([bytes([kind]) for kind in b"ACDEINSTZGHW?"]), _bodies),
    st.builds(
        lambda kind, length, body: kind + length.to_bytes(4, "big") + body,
        st.sampled_from([b"A", b"C", b"D", b"E", b"N", b"S", b"T", b"Z"]),
        st.one_of(st.integers(0, 70), st.integers(0, 2**32 - 1)),
        _bodies,
    ),
    st.builds(notification, _bodies, _bodies, st.integers(0, 2**31 - 1)),
    st.sampled_from([part for reply in REPLIES for part in reply]),
    _bodies,
)


@given(st.lists(_anything, max_size=12).map(b"".join), st.booleans(), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=150)
def test_any_stream_is_read_as_the_simple_parser_reads_it(
    stream: bytes, wanted: bool, rng: random.Random
) -> None:
    agree(stream, pieces(rng, stream), wanted=wanted)


FED = 16 * CHUNK
"""Bytes of each flood. There are twice as many of rows, so that they exceed the limit of a result."""

FLOODS = {
    "notices": notice("x" * 60),
    "notices of 20 kB": notice("x" * 20_000),
    "errors": error(text="x" * 200),
    "settings": status("TimeZone", "UTC"),
    "rows": message(b"D", b"\0\1\0\0\0\3abc"),
    "descriptions": message(b"T", b"\0\1" + b"x\0" + bytes(18)),
    "tags": message(b"C", b"SELECT 1\0"),
    "a notice of a gigabyte": b"N\x3f\xff\xff\xff" + bytes(CHUNK),
    "an error of a gigabyte": b"E\x3f\xff\xff\xff" + bytes(CHUNK),
    "a row of a gigabyte": b"D\x3f\xff\xff\xff" + bytes(CHUNK),
    "a description of a gigabyte": b"T\x3f\xff\xff\xff\xff\xff" + bytes(CHUNK),
    "a setting of a gigabyte": b"S\x3f\xff\xff\xff" + bytes(CHUNK),
    "notifications without an end": b"A\0\2\0\x08" + bytes(CHUNK),
}


@pytest.mark.sweep
@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("flood", FLOODS)
def test_memory_stays_bounded_in_any_flood(flood: str, wanted: bool) -> None:
    protocol = WireProtocol()
    protocol.query("select 1", Rows() if wanted else None)
    protocol.feed(message(b"T", b"\0\1" + b"x\0" + bytes(18)))
    fed = 2 * FED if "row" in flood else FED
    whole = FLOODS[flood] * (2 * CHUNK // len(FLOODS[flood]) + 1)
    tracemalloc.start()
    try:
        at = 0
        for _ in range(fed // CHUNK):
            protocol.feed(whole[at : at + CHUNK])
            # Aligned with the messages while the flood consists of whole messages.
            at = (at + CHUNK) % len(FLOODS[flood]) if "giga" not in flood else CHUNK
    except ConnectionLost:
        # Wanted rows have a limit, and a notification cannot consist of zeros.
        assert (wanted and "row" in flood) or "without an end" in flood
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < (fed // 2 if "row" not in flood and "end" not in flood else 12 * MAX_RESULT)
