"""`pglisten.backend.Deadline`: backends limit an operation of several waits with it."""

from __future__ import annotations

import pytest

from pglisten.backend import Deadline, DeadlinePassed


def test_without_a_timeout_the_deadline_never_passes() -> None:
    deadline = Deadline(None)
    deadline.check()
    assert (deadline.passed, deadline.remaining(), deadline.overrun()) == (False, None, 0.0)


def test_before_the_deadline_there_is_time_left() -> None:
    deadline = Deadline(1000.0)
    deadline.check()
    remaining = deadline.remaining()
    assert remaining is not None
    assert 900 < remaining <= 1000
    assert (deadline.passed, deadline.overrun()) == (False, 0.0)


def test_after_the_deadline_nothing_remains_and_the_overrun_counts() -> None:
    deadline = Deadline(-1000.0)
    with pytest.raises(DeadlinePassed):
        deadline.check()
    assert (deadline.passed, deadline.remaining()) == (True, 0.0)
    assert 1000 <= deadline.overrun() < 1100


def test_a_timeout_of_zero_has_passed_at_once() -> None:
    assert Deadline(0.0).passed
