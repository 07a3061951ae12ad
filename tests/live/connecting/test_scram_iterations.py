"""The server chooses the number of SCRAM iterations: pg8000 computes them without blocking for long."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator

import gevent
import pytest

from pglisten import ConnectionFailed, ListenerConnection
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres
from support.fixtures.servers import private_kinds

pytestmark = pytest.mark.slow  # A server of its own.

MANY, TOO_MANY = 3_000_000, 10_000_001
STALL = 0.25
"""Most seconds that other greenlets may wait: 3 million iterations in libpq take more than a second."""


@pytest.fixture(scope="module")
def postgres(janitor: JanitorProcess) -> Iterator[PrivatePostgres]:
    hba = ["host all postgres all password", "host all all all scram-sha-256"]
    with PrivatePostgres(prefer=private_kinds(), janitor=janitor, hba=hba) as postgres:
        with ListenerConnection(postgres.dsn(), backend="pg8000") as connection:
            for iterations in (MANY, TOO_MANY):
                salt, key = (base64.b64encode(bytes(size)).decode() for size in (16, 32))
                secret = f"SCRAM-SHA-256${iterations}:{salt}${key}:{key}"
                # CREATE ROLE would try the empty password, with all the iterations.
                connection.execute(
                    f"CREATE ROLE r{iterations} LOGIN;"
                    f"UPDATE pg_authid SET rolpassword = '{secret}' WHERE rolname = 'r{iterations}'"
                )
        yield postgres


def test_many_hold_up_nothing(postgres: PrivatePostgres) -> None:
    stalls: list[float] = []

    def look() -> None:
        seen = time.monotonic()
        while True:
            gevent.sleep(0.001)
            stalls.append(time.monotonic() - seen)
            seen += stalls[-1]

    looking = gevent.spawn(look)
    with pytest.raises(ConnectionFailed, match="password authentication failed"):
        ListenerConnection(postgres.dsn(user=f"r{MANY}", password="x"), backend="pg8000", connect_timeout=20)
    gevent.sleep(0.002)
    looking.kill()
    assert len(stalls) > 10
    assert max(stalls) < STALL


def test_many_end_with_connect_timeout(postgres: PrivatePostgres) -> None:
    started = time.monotonic()
    with pytest.raises(ConnectionFailed, match=r"no answer within 0\.1 s"):
        ListenerConnection(postgres.dsn(user=f"r{MANY}", password="x"), backend="pg8000", connect_timeout=0.1)
    assert time.monotonic() - started < 0.1 + STALL


def test_more_than_ten_million_are_refused_at_once(postgres: PrivatePostgres) -> None:
    with pytest.raises(ConnectionFailed, match=r"iteration|10.?000.?000"):
        ListenerConnection(
            postgres.dsn(user=f"r{TOO_MANY}", password="x"), backend="pg8000", connect_timeout=20
        )
