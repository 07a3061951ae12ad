"""The soak's judgement tells a leak from what a fault holds for a moment."""

from __future__ import annotations

import pytest

from support.chaos.soak import LIMITS, Sample, not_flat

LEVELS = {"rss": 80 * 2**20, "descriptors": 20.0, "greenlets": 10.0, "objects": 60_000.0}


def _samples(what: str, change: list[float]) -> list[Sample]:
    return [
        Sample(float(second), **{name: level + more * (name == what) for name, level in LEVELS.items()})
        for second, more in enumerate(change)
    ]


def _limit(what: str) -> float:
    share, extra = LIMITS[what]
    return LEVELS[what] * share + extra


@pytest.mark.parametrize("what", LIMITS)
def test_what_grows_over_its_limit_is_named(what: str) -> None:
    steps = [2 * _limit(what) * second / 99 for second in range(100)]
    [found] = not_flat(_samples(what, steps))
    assert found.startswith(f"{what} grew")


@pytest.mark.parametrize("what", LIMITS)
def test_what_rises_for_a_moment_is_flat(what: str) -> None:
    assert not_flat(_samples(what, [0.0] * 90 + [20 * _limit(what)] * 5 + [0.0] * 5)) == []


@pytest.mark.parametrize("what", LIMITS)
def test_what_falls_is_flat(what: str) -> None:
    assert not_flat(_samples(what, [-float(second) for second in range(100)])) == []
