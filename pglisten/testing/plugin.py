"""Fixtures for the tests of applications.

A ``conftest.py`` asks pytest for them::

    pytest_plugins = ["pglisten.testing.plugin"]

A test run that does not ask for them imports nothing. A server starts only for a test that uses it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ._fake_server import FakeServer
from .postgres import PrivatePostgres

__all__ = ["pglisten_dsn", "pglisten_fake_server", "pglisten_postgres"]


@pytest.fixture(scope="session")
def pglisten_postgres() -> Iterator[PrivatePostgres]:
    """Return a running `PrivatePostgres`, one for the whole test run.

    A test that stops, kills or freezes it must start it again, because other tests use the same server.
    Raises `PrivatePostgresError` if this machine has no PostgreSQL server programs.
    """
    with PrivatePostgres() as server:
        yield server


@pytest.fixture
def pglisten_dsn(pglisten_postgres: PrivatePostgres) -> str:
    """Return the connection string of `pglisten_postgres`, as its superuser, to the database ``postgres``."""
    return pglisten_postgres.dsn()


@pytest.fixture
def pglisten_fake_server() -> FakeServer:
    """Return a `FakeServer`, a server in memory, for one test."""
    return FakeServer()
