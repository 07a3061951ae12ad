"""Finds out which connection pooler is in between, for the report."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..._conninfo import ConnInfo
from ...backend import Backend, Session
from ...errors import ConnectionFailed
from .limits import connect

__all__ = ["name_of_host", "name_of_pooler", "name_told_by"]

_HOSTS = (
    (r"\.pooler\.supabase\.(com|co)$", "Supavisor"),
    (r"\.proxy-[^.]+\.[^.]+\.rds\.amazonaws\.com(\.cn)?$", "RDS Proxy"),
    (r"-pooler\..*\.neon\.tech$", "PgBouncer"),
)
"""Names that providers give to their poolers."""

_REFUSALS = (
    ("unsupported startup parameter", "PgBouncer"),
    (r"\bodyssey: ", "Odyssey"),
    ("for user .* and database .* is wrong, or the database does not exist", "PgDog"),
    ("Tenant or user not found", "Supavisor"),
    ("RDS proxy", "RDS Proxy"),
    ("No pool configured for database", "PgCat"),
)
"""Words of the poolers' own in the refusal of a database that does not exist, or of a setting."""


def name_of_pooler(
    backend: Backend, target: ConnInfo, timeout: float, keep: Callable[[Session], object]
) -> str | None:
    """Return the name of the pooler at *target*; ``None`` if it cannot be told.

    A pooler that hides behind PostgreSQL's answers is told by its own: it is asked for a database that does
    not exist, with a setting that PostgreSQL accepts. *keep* is called with the session if the pooler accepts
    that, and must close it too.
    """
    if (name := name_of_host(target.host)) is not None:
        return name
    asked = target.with_password().replaced(dbname="pglisten_doctor", options="-c pglisten.doctor=on")
    try:
        session = connect(backend, asked, target.connect_timeout or timeout)
        keep(session)
        session.close()
    except ConnectionFailed as refusal:
        return name_told_by(str(refusal))
    return None


def name_of_host(host: str) -> str | None:
    """Return the name of the pooler if a provider gives *host* to one; ``None`` otherwise."""
    return next((name for pattern, name in _HOSTS if re.search(pattern, host, re.IGNORECASE)), None)


def name_told_by(refusal: str) -> str | None:
    """Return the name of the pooler whose words are in *refusal*; ``None`` if they are no pooler's."""
    return next((name for words, name in _REFUSALS if re.search(words, refusal, re.IGNORECASE)), None)
