"""A bug is logged with its traceback as text, because error trackers record the variables of frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pglisten import ConnectionFailed, ConnectionLost, Listener, ListenerConnection, OperationTimeout
from pglisten._connection.gate import DeliveryGate
from pglisten.backend import ConnInfo, Session
from pglisten.errors import without_frames
from pglisten.testing import FakeBackend
from support.timing import wait_for_a_failed_attempt


def links(error: BaseException) -> Iterator[BaseException]:
    """Yield *error* with its causes and contexts."""
    for link in (error.__cause__, error.__context__):
        if link is not None:
            yield link
            yield from links(link)


def holds_no_frames(caplog: pytest.LogCaptureFixture, error: BaseException, text: str) -> None:
    """Assert that the one ERROR logged, and the causes of *error*, show *text* and hold no frame."""
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is None
    assert "Traceback (most recent call last)" in record.getMessage()
    assert text in record.getMessage()
    bugs = [link for link in links(error) if text in str(link)]
    assert bugs
    assert [link for link in bugs if link.__traceback__ is not None] == []


def test_a_backends_bug(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeBackend):
        def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
            try:
                raise ValueError("what led to the bug")
            except ValueError as error:
                raise ZeroDivisionError("the bug") from error

    with Listener("", backend=Broken(), min_reconnect_interval=60) as listener:
        wait_for_a_failed_attempt(listener)
        with pytest.raises(OperationTimeout) as caught:
            listener.wait_connected(0)
        failed = caught.value.__cause__
        assert isinstance(failed, ConnectionFailed)
        holds_no_frames(caplog, failed, "the bug")
        assert failed.__cause__ is not None
        assert failed.__cause__.__cause__ is not None
        assert failed.__cause__.__cause__.__traceback__ is None


def test_a_bug_in_the_middle_of_a_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(self: DeliveryGate, batch: object, orphans: object) -> None:
        raise ZeroDivisionError("the bug")

    with ListenerConnection("", backend=FakeBackend()) as connection:
        connection.listen("x", timeout=5)
        monkeypatch.setattr(DeliveryGate, "put", put)
        connection.notify("x", "y", timeout=5)
        with pytest.raises(ConnectionLost) as caught:
            connection.ping(5)
        holds_no_frames(caplog, caught.value, "the bug")


def test_an_error_that_led_to_itself_is_stripped_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    with pytest.raises(ValueError, match="first"):
        raise first
    assert first.__traceback__ is not None
    assert without_frames(first) is first
    assert [each.__traceback__ for each in (first, second)] == [None, None]
