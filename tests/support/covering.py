"""Which combinations of parameters suffice: each value of one beside each value of every other."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Pair = frozenset[tuple[Hashable, Hashable]]


def covering(cases: Mapping[Key, Mapping[str, Hashable]], together: Sequence[str] = ()) -> set[Key]:
    """Return the keys of few *cases* that have, among them, every pair of values that any case has.

    The parameters in *together* count as one: each combination of theirs meets each value of the others.
    """
    left = {key: _pairs(_merged(case, together)) for key, case in cases.items()}
    chosen: set[Key] = set()
    while missing := set().union(*left.values()):
        best = max(left, key=lambda key: len(left[key] & missing))
        chosen.add(best)
        had = left.pop(best)
        left = {key: rest for key, pairs in left.items() if (rest := pairs - had)}
    return chosen


def _merged(case: Mapping[str, Hashable], together: Sequence[str]) -> dict[Hashable, Hashable]:
    joint = tuple(case[name] for name in together)
    merged: dict[Hashable, Hashable] = {name: value for name, value in case.items() if name not in together}
    return merged | ({tuple(together): joint} if together else {})


def _pairs(case: Mapping[Hashable, Hashable]) -> set[Pair]:
    return {frozenset(pair) for pair in combinations(case.items(), min(2, len(case)))}
