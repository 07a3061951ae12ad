"""The servers of a log's chaos run. A failover loses nothing, or the newest entries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import gevent
from gevent.lock import BoundedSemaphore

from support.chaos.log_consumers import read_results
from support.chaos.log_results import Result
from support.chaos.log_table import Table, read
from support.chaos.log_writers import APPLICATION, Writers
from support.chaos.servers import Servers
from support.fixtures.standby import StandbyPair
from support.servers.server import PrivateServer

QUIET = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'active' "
    "AND wait_event_type IS DISTINCT FROM 'Lock'"
)
"""Counts writers that may be about to commit. One that waits for another writer's lock is not."""


class LogServers(Servers):
    """The servers below the logs *names*."""

    def __init__(
        self,
        names: tuple[str, ...],
        only: PrivateServer | None = None,
        *,
        pair: StandbyPair | None = None,
        synchronous: bool = True,
    ) -> None:
        super().__init__(only, pair=pair)
        self.loses = pair is not None and not synchronous
        """Whether a failover may lose what was committed."""
        self.generations: list[list[Table]] = []
        """The tables before each loss."""
        self.results: list[list[Result]] = []
        """What the named consumer had worked on before each loss."""
        self.writers: Writers | None = None
        self._writing = BoundedSemaphore()
        self._names = names
        if pair is not None and synchronous:
            # Both, because the standby was copied before.
            for server in self.all:
                server.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
                server.query("SELECT pg_reload_conf()")

    def direct_dsn(self, **keywords: object) -> str:
        """Return a connection string that leads past the proxies to the server that takes writes."""
        if self._pair is None:
            return self.primary.dsn(**keywords)
        return self._pair.dsn(target_session_attrs="read-write", **keywords)

    def held_up(self) -> AbstractContextManager[object]:
        """Return what this process holds while it writes, so that it does not write during a loss."""
        return self._writing if self.loses else contextlib.nullcontext()

    def wait_until_gone(self, application: str) -> None:
        """Wait until the server has ended the sessions of killed clients, one way or the other."""
        while self.primary.sessions(application):
            gevent.sleep(0.01)

    def tables(self) -> list[Table]:
        """Return the tables as they are now."""
        return [read(self.primary, name) for name in self._names]

    def read_results(self) -> list[Result]:
        """Return what the named consumer has worked on."""
        return read_results(self.primary)

    def fail_over(self, meanwhile: Callable[[], None]) -> None:
        if not self.loses:
            super().fail_over(meanwhile)
            return
        assert self._pair is not None
        assert self.writers is not None
        # It receives no more. What is committed meanwhile will be lost.
        self._pair.standby.kill()
        meanwhile()
        with self._writing:
            self.writers.pause()
            try:
                self._wait_until_quiet()
                # First, because the consumer goes on meanwhile: all that it has had is in the tables then.
                self.results.append(self.read_results())
                self.generations.append(self.tables())
                self._pair.primary.kill()
            finally:
                self.writers.resume()
            self._pair.standby.start()
            self._pair.promote()
        self._pair.rejoin()

    def _wait_until_quiet(self) -> None:
        """Wait until no writer commits. It is stopped, but its server process may have what it has sent."""
        quiet = 0
        while quiet < 3:
            ((active,),) = self.primary.query(QUIET, APPLICATION)
            quiet = 0 if active else quiet + 1
            gevent.sleep(0.03)  # Nothing tells when a process has read its socket.
