"""What every test runs in: no PG* variables, and the backends that are installed.

Variables: ``PGLISTEN_TEST_BACKENDS`` (names, comma-separated) narrows the backends;
``PGLISTEN_TEST_REQUIRE`` (names of backends, ``tls``, ``private``, ``wheel``, ``pgbouncer``, ``namespace``,
``browser``) turns what would be left out into a failure.
"""

from __future__ import annotations

import importlib.util
import os
from typing import NoReturn

import hypothesis
import pytest

# Few examples, each run others: the unit tests are to take less than two seconds. No deadline: on a busy
# machine it tells what others did.
hypothesis.settings.register_profile("pglisten", max_examples=30, deadline=None)
hypothesis.settings.load_profile("pglisten")

BACKENDS = ("psycopg2", "pg8000")


def required() -> set[str]:
    """What must not be left out."""
    return {name for name in os.environ.get("PGLISTEN_TEST_REQUIRE", "").split(",") if name}


def leave_out(feature: str, reason: str) -> NoReturn:
    """Skip a test for want of a feature, or fail it if the feature is required."""
    if feature in required():
        pytest.fail(f"PGLISTEN_TEST_REQUIRE names {feature}, but {reason}", pytrace=False)
    pytest.skip(reason)


def chosen_backends() -> list[str]:
    wanted = os.environ.get("PGLISTEN_TEST_BACKENDS", "").split(",")
    names = [name for name in BACKENDS if wanted == [""] or name in wanted]
    return [name for name in names if importlib.util.find_spec(name) is not None]


def pytest_configure() -> None:
    for name in list(os.environ):
        # libpq, psql and the code under test would follow them.
        if name.startswith("PG") and not name.startswith("PGLISTEN_TEST_"):
            del os.environ[name]
    missing = required() & set(BACKENDS) - set(chosen_backends())
    if missing:
        raise pytest.UsageError(f"PGLISTEN_TEST_REQUIRE names {', '.join(sorted(missing))}: not installed")


def pytest_report_header() -> str:
    return f"backends: {', '.join(chosen_backends()) or 'none (no driver is installed)'}"


@pytest.fixture(params=chosen_backends(), scope="session")
def backend_name(request: pytest.FixtureRequest) -> str:
    """Each installed backend in turn."""
    name: str = request.param
    return name
