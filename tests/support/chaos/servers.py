"""The servers of a chaos run: one, or a primary and its standby."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pglisten.testing import Proxy
from support.fixtures.standby import StandbyPair
from support.servers.server import PrivateServer


class Servers:
    """The servers below one listener, and which of them takes writes."""

    def __init__(self, only: PrivateServer | None = None, *, pair: StandbyPair | None = None) -> None:
        """Take one server or a pair."""
        assert (only is None) != (pair is None)
        self._only = only
        self._pair = pair

    @property
    def primary(self) -> PrivateServer:
        if self._pair is not None:
            return self._pair.primary
        assert self._only is not None
        return self._only

    @property
    def all(self) -> tuple[PrivateServer, ...]:
        return (self.primary,) if self._pair is None else self._pair.servers

    @property
    def can_fail_over(self) -> bool:
        return self._pair is not None

    def dsn(self, proxies: Sequence[Proxy]) -> str:
        """A connection string that leads through the proxies, which stand before ``all`` in their order."""
        hosts = ",".join(proxy.host for proxy in proxies)
        ports = ",".join(str(proxy.port) for proxy in proxies)
        return self.all[0].dsn(host=hosts, port=ports)

    def fail_over(self, meanwhile: Callable[[], None]) -> None:
        """Kill the primary, promote the standby, and after *meanwhile* bring the old one back as standby."""
        assert self._pair is not None
        self._pair.wait_caught_up()
        self._pair.primary.kill()
        self._pair.promote()
        meanwhile()
        self._pair.rejoin()
