"""Proves that a session listens to what it has acknowledged. Pure.

A connection pooler may acknowledge LISTEN without listening. Some run only the first statement of a query
(PgDog). In transaction mode, each transaction may go to another server process (PgBouncer, Odyssey,
Supavisor), or LISTEN ends with the transaction (Odyssey). Without a pooler, LISTEN ends by ``UNLISTEN *`` or
``DISCARD ALL`` in ``execute()``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ConnectionLost

__all__ = ["CONNECT_DIRECTLY", "Problem", "StillListening", "problem_of_reply"]

Rows = Sequence[Sequence["str | None"]]

CONNECT_DIRECTLY = "connect to PostgreSQL itself, or through a pool in session mode"


class Problem(NamedTuple):
    """Why notifications would not arrive, and what to do."""

    found: str
    remedy: str

    def lost(self) -> ConnectionLost:
        """Return the error that ends the connection."""
        return ConnectionLost(f"{self.found} (remedy: {self.remedy})")


def problem_of_reply(rows: Rows) -> Problem | None:
    """Return the problem that *rows*, the answer to a `sync_statement`, show; ``None`` if there is none."""
    if len(rows) == 1 and len(rows[0]) == 1 and rows[0][0] is not None:
        return None
    return Problem(
        "the reply to a query with LISTEN ends before its last statement: a connection pooler in between "
        "runs only the first, as PgDog does",
        CONNECT_DIRECTLY,
    )


class StillListening:
    """Compare the answers of one session to `LISTENING_QUERY`; *announced* is the login's server process."""

    def __init__(self, announced: int) -> None:
        self._announced = str(announced)
        self._answered: str | None = None
        """The server process that answered last; ``None`` before the first answer."""

    def problem(self, rows: Rows, held: int) -> Problem | None:
        """Return the problem that *rows* show; ``None`` if they confirm *held* acknowledged channels.

        The session may listen to more: a pooler may have handed over a session that listened already.
        """
        pid, count = rows[0] if len(rows) == 1 and len(rows[0]) == 2 else (None, None)
        before, self._answered = self._answered, pid
        if not (count or "").isdecimal():
            return Problem("the server does not say to how many channels it listens", CONNECT_DIRECTLY)
        if before not in (None, pid):
            found = f"server process {pid} answers instead of {before}: a connection pooler is in between"
            return Problem(f"{found}, and not in session mode", CONNECT_DIRECTLY)
        if int(count or 0) >= held:
            return None
        found = f"the server listens to {count} of {held} acknowledged channels"
        if pid == self._announced:
            return Problem(f"{found}: UNLISTEN or DISCARD ALL was run", "leave such SQL to other sessions")
        return Problem(f"{found}: a connection pooler in between ends LISTEN", CONNECT_DIRECTLY)
