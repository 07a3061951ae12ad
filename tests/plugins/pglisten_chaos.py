"""Options of the chaos and soak tests, and where their reports go.

``--chaos-seed`` and ``--chaos-seconds`` (or ``PGLISTEN_CHAOS_SEED``, ``PGLISTEN_CHAOS_SECONDS``) repeat a
run, or make it longer. ``--soak-seconds`` (``PGLISTEN_SOAK_SECONDS``) is how long to soak; without it the
soak is deselected, and the summary says so.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

CHAOS_SECONDS = 8.0
"""Seconds of faults in one run by default: six runs make a minute."""

SLACK = 240.0
"""Seconds over its own length that a run may take, servers included, before pytest ends it."""

REPORTS = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pglisten")
    for name, kind, text in (
        ("--chaos-seconds", float, f"seconds of faults in each chaos run ({CHAOS_SECONDS:g})"),
        ("--chaos-seed", int, "seed of every chaos run (a new one each)"),
        ("--soak-seconds", float, "seconds of steady traffic in each soak; none without"),
    ):
        # Read here: before any test is run, the environment is cleared of names that libpq might follow.
        default = os.environ.get("PGLISTEN_" + name.strip("-").upper().replace("-", "_")) or None
        group.addoption(name, type=kind, default=default, help=text)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[REPORTS] = []
    config.addinivalue_line("markers", "soak: runs only with --soak-seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    soak = config.getoption("--soak-seconds")
    soaking = [item for item in items if item.get_closest_marker("soak")]
    if soaking and not soak:
        config.hook.pytest_deselected(items=soaking)
        items[:] = [item for item in items if item not in soaking]
        config.stash[REPORTS].append(
            f"soak: {len(soaking)} deselected; --soak-seconds=N or PGLISTEN_SOAK_SECONDS=N runs them"
        )
    for item in items:
        if "chaos_seconds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(_chaos_seconds(config) + SLACK))
        elif item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.timeout(soak + SLACK))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if reports := config.stash[REPORTS]:
        terminalreporter.section("chaos and soak")
        for report in reports:
            terminalreporter.line(report)


def _chaos_seconds(config: pytest.Config) -> float:
    given = config.getoption("--chaos-seconds")
    return CHAOS_SECONDS if given is None else float(given)


@pytest.fixture
def chaos_seconds(request: pytest.FixtureRequest) -> float:
    """Seconds of faults in one run."""
    return _chaos_seconds(request.config)


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """The seed that was given, or a new one."""
    given = request.config.getoption("--chaos-seed")
    return random.SystemRandom().randrange(10**9) if given is None else int(given)


@pytest.fixture
def soak_seconds(request: pytest.FixtureRequest) -> float:
    """Seconds of steady traffic."""
    return float(request.config.getoption("--soak-seconds"))


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Show a line in the terminal's summary, whatever the outcome; and in the test's own output."""

    def show(line: str) -> None:
        print(line)
        request.config.stash[REPORTS].append(line)

    return show
