from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pglisten._listener.backoff import Backoff


def _dice_free(minimum: float, maximum: float) -> Backoff:
    return Backoff(minimum, maximum, jitter=0.0, random=lambda: 0.7)


def test_the_interval_doubles_from_the_minimum_to_the_maximum() -> None:
    backoff = _dice_free(80, 300)
    assert [backoff.after_failure() for _ in range(6)] == [80, 160, 300, 300, 300, 300]


def test_a_connection_resets_the_interval() -> None:
    backoff = _dice_free(1, 60)
    for _ in range(5):
        backoff.after_failure()
    backoff.connected(now=1000.0)
    assert backoff.after_failure() == 1


def test_a_connection_that_lived_for_the_minimum_is_retried_at_once() -> None:
    backoff = _dice_free(5, 60)
    backoff.connected(now=100.0)
    assert backoff.after_loss(now=105.0) == 0
    assert backoff.after_loss(now=1e9) == 0


def test_a_connection_that_died_young_waits_for_the_rest_of_the_minimum() -> None:
    backoff = _dice_free(5, 60)
    backoff.connected(now=100.0)
    assert backoff.after_loss(now=102.0) == 3


@given(
    st.floats(0.001, 100),
    st.floats(1, 1000),
    st.floats(0, 1),
    st.lists(st.floats(0, 1), min_size=8, max_size=8),
)
def test_jitter_stays_within_its_share_around_the_schedule(
    minimum: float, factor: float, jitter: float, dice: list[float]
) -> None:
    throws = iter(dice)
    jittered = Backoff(minimum, minimum * factor, jitter, lambda: next(throws))
    exact = _dice_free(minimum, minimum * factor)
    for _ in dice:
        delay = exact.after_failure()
        slack = 1e-9 * delay
        assert delay * (1 - jitter) - slack <= jittered.after_failure() <= delay * (1 + jitter) + slack
