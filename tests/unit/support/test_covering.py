"""Few combinations have every pair that all combinations have, and which ones a run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.covering import covering

pytest_plugins = ["pytester"]

Case = Mapping[str, int]


def every(sizes: Mapping[str, int]) -> dict[int, Case]:
    values = product(*(range(size) for size in sizes.values()))
    return dict(enumerate(dict(zip(sizes, chosen, strict=True)) for chosen in values))


def pairs(case: Case) -> set[object]:
    return set(combinations(sorted(case.items()), min(2, len(case))))


SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 4), min_size=1)


@given(SIZES, st.data())
def test_every_pair_of_a_case_is_among_the_chosen_ones(sizes: dict[str, int], data: st.DataObject) -> None:
    cases = every(sizes)
    # Some of them, as if the others had been skipped.
    cases = {key: cases[key] for key in data.draw(st.sets(st.sampled_from(sorted(cases)), min_size=1))}
    chosen = covering(cases)
    found = set().union(*(pairs(cases[key]) for key in chosen))
    assert found == set().union(*map(pairs, cases.values()))


def test_the_chosen_ones_are_few() -> None:
    cases = every({"backend": 3, "link": 2, "patched": 2, "how": 3, "scenario": 11})
    assert len(cases) == 396
    assert len(covering(cases)) <= 40


def test_what_counts_as_one_meets_each_value_of_the_others_in_every_combination() -> None:
    cases = every({"backend": 3, "link": 2, "scenario": 5})
    found = {tuple(cases[key].values()) for key in covering(cases, ("backend", "link"))}
    assert len(found) == 3 * 2 * 5


TESTS = """
import pytest

@pytest.fixture(params=["first", "second"])
def backend_name(request):
    return request.param

@pytest.mark.pairwise
@pytest.mark.parametrize("letter", "ab")
@pytest.mark.parametrize("number", [{}, {1: 1}])
def test_pairs(backend_name, letter, number): pass

@pytest.mark.any_backend
@pytest.mark.parametrize("letter", "ab")
def test_any(backend_name, letter): pass

def test_plain(backend_name): pass
"""


def test_a_run_without_exhaustive_ones_keeps_each_pair_and_one_backend_of_each_case(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TESTS)
    pytester.makeconftest('pytest_plugins = ["support.fixtures.combinations"]')
    pytester.makeini("[pytest]\nmarkers =\n    pairwise\n    any_backend\n    exhaustive")
    ran = pytester.runpytest_inprocess("-v", "-m", "not exhaustive", "-p", "no:cacheprovider")
    names = [line.split()[0].partition("::")[2] for line in ran.outlines if " PASSED" in line]
    assert [name for name in names if "any" in name] == ["test_any[first-a]", "test_any[second-b]"]
    assert len([name for name in names if "pairs" in name]) == 4
    assert len([name for name in names if "plain" in name]) == 2
    assert pytester.runpytest_inprocess("-p", "no:cacheprovider").parseoutcomes() == {"passed": 14}
