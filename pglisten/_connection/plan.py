"""One query that changes what the server listens to. Pure."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from .._sql import UNLISTEN_ALL, sync_statement

__all__ = ["BATCH", "Plan"]

BATCH = 1000
"""Channels in one query: one round trip. The reply has a message for each, and more would block the hub."""


class Plan(NamedTuple):
    """One query: the channels that it unlistens and listens to."""

    listen: tuple[str, ...]
    unlisten: tuple[str, ...]
    everything: bool = False
    """Whether to unlisten all channels; ``unlisten`` names them."""

    @property
    def sql(self) -> str:
        """The query's text."""
        return UNLISTEN_ALL if self.everything else sync_statement(self.listen, self.unlisten)

    def without(self, channels: Container[str]) -> Plan:
        """Return the plan without listening to *channels*."""
        return self._replace(listen=tuple(channel for channel in self.listen if channel not in channels))

    def halves(self) -> tuple[Plan, Plan]:
        """Return two smaller plans that together do the same."""
        middle = (len(self.unlisten) + len(self.listen)) // 2
        rest = max(0, middle - len(self.unlisten))
        return (
            Plan(self.listen[:rest], self.unlisten[:middle]),
            Plan(self.listen[rest:], self.unlisten[middle:]),
        )
