"""A signal handler calls close() anywhere in pglisten's own code: nothing hangs, nothing is left."""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.programs.interrupted import INTERRUPTED, SCENARIOS

FEW = 53
"""Bytecodes between two interrupted ones: about two hundred interruptions of each scenario."""

MANY = 18


@pytest.mark.sweep
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("how", ["plain", "patched"])
def test_a_handler_closes_wherever_it_comes(how: str, scenario: str) -> None:
    succeeds(INTERRUPTED, how, scenario, str(FEW), "0")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("start", [1, 7, 13])
def test_a_handler_closes_wherever_else_it_comes(start: int, scenario: str) -> None:
    succeeds(INTERRUPTED, "plain", scenario, str(MANY), str(start))
