"""The fixtures ``server`` and ``private_server``, and where their servers come from.

``PGLISTEN_TEST_DSN`` names a server to use. Otherwise it is a container if an engine answers, else
programs of this system, else a wheel's. ``PGLISTEN_TEST_POSTGRES`` (dsn, docker, local, wheel)
forces one of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest

from pglisten.testing.postgres.binaries import Kind, find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from pglisten_docker import container_server, engine_answers
from pglisten_environment import leave_out
from pglisten_server import PrivateServer, Server, keywords_of

SOURCES = ("dsn", "docker", "local", "wheel")


@functools.cache
def source() -> str:
    """Where the main server comes from."""
    forced = os.environ.get("PGLISTEN_TEST_POSTGRES", "")
    if forced and forced not in SOURCES:
        raise pytest.UsageError(f"PGLISTEN_TEST_POSTGRES={forced}: must be one of {', '.join(SOURCES)}")
    if forced == "dsn" and not os.environ.get("PGLISTEN_TEST_DSN"):
        raise pytest.UsageError("PGLISTEN_TEST_POSTGRES=dsn, but PGLISTEN_TEST_DSN is not set")
    if forced:
        return forced
    if os.environ.get("PGLISTEN_TEST_DSN"):
        return "dsn"
    if engine_answers():
        return "docker"
    return "local" if find_binaries(("local",)) else "wheel"


def private_kinds() -> tuple[Kind, ...]:
    """Where private servers come from: what is forced, else everywhere."""
    forced = os.environ.get("PGLISTEN_TEST_POSTGRES")
    if forced == "local":
        return ("local",)
    return ("wheel",) if forced == "wheel" else ("local", "wheel")


def pytest_report_header() -> str:
    origin = source()
    if origin in ("dsn", "docker"):
        return f"server: {origin}"
    found = find_binaries(private_kinds())
    return (
        f"server: private, from {found[0].origin if found else 'nowhere: no server programs are installed'}"
    )


@pytest.fixture(scope="session")
def janitor() -> Iterator[JanitorProcess]:
    """The process that owns all private servers of the run."""
    with JanitorProcess() as process:
        yield process


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The main server, shared by all tests: leave it as it was."""
    origin = source()
    if origin == "dsn":
        made: Server = Server(keywords_of(os.environ["PGLISTEN_TEST_DSN"]), "PGLISTEN_TEST_DSN")
        yield made
        made.close()
    elif origin == "docker":
        with container_server() as made:
            yield made
    else:
        made = start_private(request.getfixturevalue("janitor"))
        yield made
        made.close()


@pytest.fixture
def private_server(janitor: JanitorProcess) -> Iterator[PrivateServer]:
    """A server for one test, to be stopped, killed, frozen or restarted."""
    if not find_binaries(private_kinds()) and source() in ("dsn", "docker"):
        leave_out("private", "no server programs are installed: pip install 'pglisten[demo]'")
    made = start_private(janitor)
    yield made
    made.close()


def start_private(janitor: JanitorProcess) -> PrivateServer:
    """Start a private server; PrivatePostgresError says what is missing."""
    postgres = PrivatePostgres(prefer=private_kinds(), janitor=janitor)
    postgres.start()
    return PrivateServer(postgres)
