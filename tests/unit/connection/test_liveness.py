"""The heartbeat's rule, on times that the tests choose."""

from __future__ import annotations

import pytest

from pglisten._connection.heartbeat import Heartbeat, Liveness

INTERVAL, TIMEOUT = 30.0, 10.0
START = 1000.0


@pytest.fixture
def liveness() -> Liveness:
    return Liveness(Heartbeat(INTERVAL, TIMEOUT), START)


def test_the_first_ping_is_due_an_interval_after_the_connection_was_made(liveness: Liveness) -> None:
    assert liveness.ping_due_in(START) == INTERVAL
    assert liveness.ping_due_in(START + INTERVAL) == 0
    assert liveness.ping_due_in(START + INTERVAL + 5) == -5


def test_the_reply_to_a_heartbeat_puts_the_next_one_off(liveness: Liveness) -> None:
    liveness.beaten(START + 29)
    assert liveness.ping_due_in(START + 29) == INTERVAL


def test_the_reply_to_a_command_does_not_because_it_proves_less(liveness: Liveness) -> None:
    liveness.replied(START + 29)
    assert liveness.ping_due_in(START + 29) == 1


def test_a_notification_does_not_put_the_next_ping_off(liveness: Liveness) -> None:
    liveness.last_received = START + 29
    assert liveness.ping_due_in(START + 29) == 1


def test_after_silence_the_reply_to_a_ping_has_the_timeout(liveness: Liveness) -> None:
    assert liveness.ping_timeout(START + INTERVAL) == TIMEOUT


def test_after_an_arrival_the_reply_to_a_ping_has_the_interval_too(liveness: Liveness) -> None:
    liveness.last_received = START + INTERVAL
    assert liveness.ping_timeout(START + INTERVAL) == INTERVAL + TIMEOUT
    assert liveness.ping_timeout(START + INTERVAL + 12) == INTERVAL + TIMEOUT - 12


def test_the_reply_to_a_ping_never_has_less_than_the_timeout(liveness: Liveness) -> None:
    assert liveness.ping_timeout(START + 10 * INTERVAL) == TIMEOUT
    # The hub was blocked: the ping is sent long after it was due.
    liveness.last_received = START + INTERVAL
    assert liveness.ping_timeout(START + 10 * INTERVAL) == TIMEOUT


def test_a_reply_is_an_arrival_too(liveness: Liveness) -> None:
    liveness.replied(START + 7)
    assert liveness.last_received == START + 7


def test_a_query_has_the_interval_and_the_timeout(liveness: Liveness) -> None:
    assert liveness.query_timeout == INTERVAL + TIMEOUT


def test_without_a_heartbeat_no_ping_is_due_and_nothing_has_a_limit() -> None:
    liveness = Liveness(None, START)
    assert liveness.ping_due_in(START + 1e9) is None
    assert liveness.ping_timeout(START + 1e9) is None
    assert liveness.query_timeout is None
    liveness.replied(START + 7)
    assert liveness.last_received == START + 7
