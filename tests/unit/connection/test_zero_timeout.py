"""Calls with a timeout of 0, or with the rest of a deadline that has passed, over a server in memory."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import pytest

from pglisten import Listener
from pglisten._greenlet import let_others_run
from pglisten.testing import FakeBackend, FakeServer, Proxy
from support.fixtures.listeners import succeeds
from support.programs.zero_timeout import CALLS, END, NO_TIME


@pytest.mark.parametrize("how", ["plain", "patched"])
@pytest.mark.parametrize("calls", CALLS)
def test_a_call_without_time_lets_others_run(calls: str, how: str) -> None:
    succeeds(NO_TIME + CALLS[calls] + END, how, "memory", "")


@pytest.mark.parametrize("none", [0, 1e-9, -1.0])
def test_what_has_arrived_by_then_is_taken_in_that_one_turn(none: float) -> None:
    server = FakeServer()
    with Listener("", backend=FakeBackend(server)) as listener:
        listener.listen("a")
        for number in range(3):
            let_others_run()  # The loop waits for the descriptor again.
            server.notify("a", str(number))
            item = listener.get(timeout=none)
            assert item is not None
            assert item.payload == str(number)


def test_helpers_of_tests_let_others_run_too() -> None:
    with Proxy(("127.0.0.1", 9)) as between:
        calls: tuple[Callable[[], object], ...] = (
            lambda: FakeServer().wait_listened("a", timeout=0),
            lambda: between.wait_until(lambda: False, timeout=0),
        )
        for call in calls:
            other = gevent.spawn(int)
            with pytest.raises(TimeoutError):
                call()
            assert other.dead
