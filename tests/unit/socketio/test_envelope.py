"""Which messages of the log are new for a reader."""

from __future__ import annotations

import pytest

from pglisten._socketio.envelope import SENDERS, Inbox, wrap


def test_what_a_sender_has_sent_again_comes_once() -> None:
    inbox = Inbox("me")
    again = [wrap("a", 1, "1"), wrap("a", 2, "2"), wrap("b", 1, "3"), wrap("a", 1, "1"), wrap("a", 2, "2")]
    assert [inbox.unwrap(each) for each in again] == ["1", "2", "3", None, None]
    assert inbox.unwrap(wrap("a", 5, "4 5")) == "4 5"


def test_ones_own_messages_are_dropped() -> None:
    assert [Inbox("me").unwrap(each) for each in (wrap("me", 1, "{}"), "a 0 {}")] == [None, None]


@pytest.mark.parametrize(
    "payload",
    ["", "a", "a 1x {}", "a -1 {}", "a \u0661 {}", "a \u00b2 {}", "a  {}", f"a {'9' * 5000} {{}}"],
)
def test_what_is_no_message_is_told(payload: str) -> None:
    assert Inbox("me").unwrap(payload) == payload


@pytest.mark.parametrize("payload", ["{}", '\n{"a": 1}', ' { "me": 1}'])
def test_json_without_a_sender_comes_each_time(payload: str) -> None:
    inbox = Inbox("me")
    assert [inbox.unwrap(payload), inbox.unwrap(payload)] == [payload, payload]


def test_the_senders_that_were_heard_last_are_remembered() -> None:
    inbox = Inbox("me")
    for number in range(SENDERS + 1):
        inbox.unwrap(wrap(f"s{number}", 1, ""))
        inbox.unwrap(wrap("s0", number + 2, ""))
    assert len(inbox._last) == SENDERS
    assert inbox.unwrap(wrap("s0", 1, "")) is None
    assert inbox.unwrap(wrap(f"s{SENDERS}", 1, "")) is None
