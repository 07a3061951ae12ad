"""A signal handler calls close() anywhere in pglisten's own code: nothing hangs, nothing is left."""

from __future__ import annotations

import random

import pytest

from support.fixtures.listeners import succeeds
from support.programs.interrupted import INTERRUPTED, SCENARIOS

FEW = 53
"""Bytecodes between two interrupted ones: about two hundred interruptions of each scenario."""

MANY = 18


@pytest.mark.sweep
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_handler_closes_wherever_it_comes_in_a_patched_process(scenario: str) -> None:
    succeeds(INTERRUPTED, "patched", scenario, str(FEW), "0")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_handler_closes_wherever_it_comes(scenario: str) -> None:
    # Other bytecodes in each run; a failure says which one.
    succeeds(INTERRUPTED, "plain", scenario, str(MANY), str(random.SystemRandom().randrange(MANY)))


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("start", range(MANY))
def test_a_handler_closes_at_each_bytecode(start: int, scenario: str) -> None:
    succeeds(INTERRUPTED, "plain", scenario, str(MANY), str(start))
