"""What a server is: primary or standby, writable or not, and which process answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .._sql import READ_COMMITTED

__all__ = ["NO_STATE", "STATE_QUERY", "ServerState"]

STATE_QUERY = (
    READ_COMMITTED + "SELECT pg_catalog.pg_is_in_recovery()::pg_catalog.text, "
    "pg_catalog.current_setting('transaction_read_only'), pg_catalog.pg_backend_pid()::pg_catalog.text"
)
"""Costs one round trip. Newer servers report the first two unasked, but poolers do not pass that on."""

NO_STATE = "the server does not say whether it is a primary or a standby"
"""The error if `ServerState.read` returns ``None``."""


class ServerState(NamedTuple):
    """The answer to `STATE_QUERY`."""

    in_recovery: bool
    """Whether it is a standby, or recovers from a crash."""
    read_only: bool
    """Whether transactions cannot write: in recovery, or by ``default_transaction_read_only``."""
    pid: int
    """The server process that answered."""

    @classmethod
    def read(cls, rows: Sequence[Sequence[str | None]]) -> ServerState | None:
        """Return the state in the rows of `STATE_QUERY`; ``None`` if they are not what PostgreSQL sends."""
        if len(rows) != 1 or len(rows[0]) != 3:
            return None
        in_recovery, read_only, pid = rows[0]
        if not re.fullmatch("[0-9]{1,10}", pid or ""):
            return None
        return cls(in_recovery == "true", read_only == "on", int(pid or 0))

    def suits(self, wanted: str) -> bool:
        """Whether this server satisfies *wanted*, a value of ``target_session_attrs``.

        A standby satisfies ``prefer-standby``. If there is none, the caller chooses another server.
        """
        return {
            "read-write": not self.read_only and not self.in_recovery,
            "read-only": self.read_only or self.in_recovery,
            "primary": not self.in_recovery,
            "standby": self.in_recovery,
            "prefer-standby": self.in_recovery,
        }.get(wanted, True)

    def unsuitable(self, wanted: str) -> str:
        """Return the reason why this server does not satisfy *wanted*."""
        found = "a standby" if self.in_recovery else "a primary" if not self.read_only else "read-only"
        return f"the server is {found}, and target_session_attrs={wanted}"
