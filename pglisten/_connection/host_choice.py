"""Which of several servers a listener takes: one rule for the listener and for the doctor. Pure.

The rules are libpq's (PostgreSQL docs, libpq, ``target_session_attrs``). The addresses are visited in order:

* A server that suits is taken. If it then refuses LISTEN, as a standby does, the next one is visited.
* With ``prefer-standby`` a primary is kept in reserve. The reserves are taken last, in the same order.
* Every other server is skipped, and the attempt's error says why.
* A failure that `ends_attempt` ends it: no further server is visited, and no reserve is taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TypeVar

from .server_state import ServerState

__all__ = ["Choice", "ends_attempt", "first_to_listen", "judge"]

T = TypeVar("T")

_FINAL_CLASSES = ("28", "3D")
"""Classes of SQLSTATE (PostgreSQL docs, appendix A): a login refused, and no such database."""


class Choice(Enum):
    """What happens to a server that answers."""

    TAKE = "take"
    RESERVE = "reserve"
    """Taken if no other server can be taken."""
    SKIP = "skip"


def judge(state: ServerState, wanted: str) -> Choice:
    """Return what to do with the server in *state*; *wanted* is the value of ``target_session_attrs``."""
    if state.suits(wanted):
        return Choice.TAKE
    return Choice.RESERVE if wanted == "prefer-standby" else Choice.SKIP


def ends_attempt(sqlstate: str | None) -> bool:
    """Return whether no further host is visited after a failure with *sqlstate* (``None``: without one).

    As in libpq: a wrong password is wrong on every host, and sending it to all may lock the account. After
    any other failure another host may do better.
    """
    return sqlstate is not None and sqlstate[:2] in _FINAL_CLASSES


def first_to_listen(servers: Iterable[tuple[T, ServerState]], wanted: str, *, ended: bool) -> T | None:
    """Return that of *servers*, in the order of the visits, which a listener keeps after LISTEN.

    *ended* says that the last visit was a failure that `ends_attempt`: then no reserve is taken. A server in
    recovery refuses LISTEN. If all refuse, return the first that a listener tries; ``None`` if it tries none.
    """
    judged = [(judge(state, wanted), state.in_recovery, server) for server, state in servers]
    choices = [Choice.TAKE] if ended else [Choice.TAKE, Choice.RESERVE]
    tried = [each for choice in choices for each in judged if each[0] is choice]
    able = [server for _, in_recovery, server in tried if not in_recovery]
    return next(iter(able or [server for *_, server in tried]), None)
