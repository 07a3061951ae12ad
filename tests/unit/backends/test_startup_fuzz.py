"""The pg8000 backend's start-up against hostile bytes, which pg8000 parses."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pglisten.backend import ConnInfo, Deadline
from pglisten_pg8000._failure import StartupFailed
from pglisten_pg8000._startup import _MAX_STARTUP, _log_in, _Stream
from support.servers.fuzz import REPLIES, STARTUP, pieces, seeds, spoilt
from support.servers.wrong_server import (
    KEY,
    READY,
    STATUS,
    WELCOME,
    authentication,
    error,
    message,
    notice,
    notification,
    status,
)

T = TypeVar("T")

CONNINFO = ConnInfo({"user": "app", "dbname": "app", "password": "s3cret", "channel_binding": "prefer"})
SASL = authentication(10, b"SCRAM-SHA-256\0\0")


class Bytes:
    """A transport whose whole stream is in its buffer."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""
        self.received = 0

    def receive(self, size: int) -> bytes:
        data = self._rest or next(self._parts, b"")
        self._rest = data[size:]
        self.received += len(data[:size])
        return data[:size]

    def send(self, data: memoryview) -> int:
        return len(data)

    def certificate(self) -> None:
        return None


class Stream(_Stream):
    def compute(self, function: Callable[[], T]) -> T:
        return function()  # No thread: there is no other greenlet here.


def log_in(parts: Iterator[bytes], conninfo: ConnInfo = CONNINFO) -> tuple[int | StartupFailed, int]:
    """Return the pid or the error, and how many bytes were received. Raise any other error."""
    transport: Any = Bytes(parts)
    try:
        return _log_in(conninfo, Stream(transport, Deadline(None))), transport.received
    except StartupFailed as exc:
        failed = exc
    assert "\n" not in str(failed)
    assert len(str(failed)) <= 2000
    assert "s3cret" not in str(failed)
    return failed, transport.received


def test_a_recorded_start_up_logs_in() -> None:
    assert log_in(iter([b"".join(STARTUP)]))[0] == 9771
    assert log_in(iter([WELCOME]))[0] == 4711


def _may_log_in(stream: bytes) -> bool:
    """Check a necessary condition: the stream has an AuthenticationOk and a later ReadyForQuery."""
    _, found, stream = stream.partition(authentication(0))
    return bool(found) and any(ready in stream for ready in (READY, message(b"Z", b"T"), message(b"Z", b"E")))


def test_a_damaged_start_up_logs_in_or_fails_and_does_nothing_else() -> None:
    for seed, rng in seeds():
        first = rng.choice(
            [STARTUP[:1], [SASL], [authentication(5, b"salt")], [SASL, authentication(11, b"r=x")]]
        )
        stream = spoilt(rng, [*first, *STARTUP[1:]])
        try:
            outcome, _ = log_in(iter(part for part in pieces(rng, stream) if part))
            assert isinstance(outcome, StartupFailed) or _may_log_in(stream)
        except BaseException:
            print(f"PGLISTEN_TEST_FUZZ_SEED={seed}: {stream!r}")
            raise


_bodies = st.binary(max_size=80)
_anything = st.one_of(
    st.builds(message, st.binary(min_size=1, max_size=1), _bodies),
    st.builds(authentication, st.integers(0, 13), _bodies),
    st.builds(
        lambda text: authentication(11, text.encode()),
        st.text("r=s,i=4096,Q8xWmNzv0123456789/+\0é", max_size=60),
    ),
    st.builds(
        lambda kind, length, body: kind + length.to_bytes(4, "big") + body,
        st.sampled_from([bytes([kind]) for kind in b"RSKZENAvTDGH"]),
        st.integers(0, 2**32 - 1),
        _bodies,
    ),
    st.sampled_from([*STARTUP, SASL, *REPLIES[1]]),
)


@given(st.lists(_anything, max_size=10).map(b"".join))
@settings(deadline=None, max_examples=150)
def test_any_bytes_log_in_or_fail_and_do_nothing_else(stream: bytes) -> None:
    outcome, _ = log_in(iter([stream]))
    assert isinstance(outcome, StartupFailed) or _may_log_in(stream)


@pytest.mark.parametrize(
    "stream",
    [
        READY,
        KEY + READY,
        STATUS + KEY + READY,
        SASL + KEY + READY,
        SASL + READY,
        authentication(5, b"salt") + READY,
    ],
    ids=repr,
)
@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
def test_a_server_that_skips_authentication_is_refused(stream: bytes, binding: str) -> None:
    outcome, _ = log_in(iter([stream]), ConnInfo({**CONNINFO.values(), "channel_binding": binding}))
    assert isinstance(outcome, StartupFailed)


@pytest.mark.parametrize("second", [authentication(0), authentication(3), SASL])
def test_a_request_after_authentication_is_refused(second: bytes) -> None:
    outcome, _ = log_in(iter([authentication(0) + second + STATUS + KEY + READY]))
    assert "once more" in str(outcome)


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (authentication(0) + message(b"K", b"\0\0\0\1") + READY, "malformed BackendKeyData"),
        (authentication(0) + KEY + message(b"Z", b"?"), "malformed ReadyForQuery"),
        (authentication(0) + KEY + message(b"Z"), "malformed ReadyForQuery"),
        (authentication(10, b"x" * 1997), "malformed request for authentication"),
    ],
)
def test_the_error_names_the_malformed_message(broken: bytes, complaint: str) -> None:
    outcome, _ = log_in(iter([broken]))
    assert isinstance(outcome, StartupFailed)
    assert complaint in str(outcome)


def test_the_servers_error_is_one_line_of_limited_length_with_its_sqlstate() -> None:
    outcome, _ = log_in(iter([error("FATAL", "53300", "too\nmany\r\n" + "x" * 100_000)]))
    assert isinstance(outcome, StartupFailed)
    assert (outcome.sqlstate, str(outcome)[:9], len(str(outcome))) == ("53300", "too many ", 2000)


def test_an_encoding_of_the_servers_choice_is_not_used() -> None:
    # Decoding takes time proportional to the square of the length: half a minute for this one.
    slow = status("client_encoding", "punycode") + status("x", "a" * 500_000 + "-" + "b" * 300_000)
    assert log_in(iter([authentication(0) + slow + KEY + READY]))[0] == 4711


def _endless(piece: bytes) -> Iterator[bytes]:
    piece *= 8192 // len(piece) + 1
    while True:
        yield piece


@pytest.mark.sweep
@pytest.mark.parametrize("before", [b"", SASL])
@pytest.mark.parametrize(
    "piece",
    [
        notice("x" * 60),
        notice("x" * 20_000),
        notice("x" * 1_000_000),
        status("setting", "x" * 900),
        notification(),
        KEY,
        message(b"n"),
        message(b"S") + b"S\x00\x0f\xff\xff",
        b"E\x7f\xff\xff\xff" + bytes(1000),
        b"S\x3f\xff\xff\xff" + bytes(1000),
        b"R\xff\xff\xff\xff" + bytes(1000),
    ],
    ids=lambda piece: repr(piece[:12]),
)
def test_an_endless_start_up_fails_after_a_megabyte_and_keeps_little_of_it(
    before: bytes, piece: bytes
) -> None:
    def parts() -> Iterator[bytes]:
        if before:
            yield before
        yield from _endless(piece)

    tracemalloc.start()
    try:
        outcome, received = log_in(parts())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(outcome, StartupFailed)
    assert received <= _MAX_STARTUP + len(before) + 3 * 8192
    assert peak < 8 * _MAX_STARTUP
