from __future__ import annotations

import pytest

from support.fixtures.environment import leave_out
from support.libpq import LIBRARIES, Libpq


@pytest.fixture(scope="session")
def libpq() -> Libpq:
    """Return the libpq that psycopg2 brings."""
    return Libpq()


@pytest.fixture(scope="session", params=LIBRARIES)
def each_libpq(request: pytest.FixtureRequest) -> Libpq:
    """Return the libpq that each driver brings: often not of the same version."""
    return Libpq(request.param)


@pytest.fixture(scope="session")
def libpq_18() -> Libpq:
    """Return the newest libpq that a driver brings, if that is 18 or newer."""
    found = max(map(Libpq, LIBRARIES), key=lambda libpq: libpq.version)
    if found.version < 180000:
        leave_out("libpq", f"the newest libpq of the drivers is {found.version // 10000}")
    return found
