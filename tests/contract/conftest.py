from __future__ import annotations

import pytest

from support.libpq import Libpq


@pytest.fixture(scope="session")
def libpq() -> Libpq:
    """Return the libpq that psycopg2 brings."""
    return Libpq()
