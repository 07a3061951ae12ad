"""What to do about a log whose tables are not all there. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from .._sql import READ_COMMITTED, quote_literal
from .._text import printable
from ..errors import ServerError
from .names import LogNames

__all__ = ["NO_TABLE", "REMEDY", "missing_sql", "no_log", "no_state", "with_remedy"]

NO_TABLE = "42P01"
"""``relation … does not exist`` (undefined_table)."""

REMEDY = (
    "restore it from a backup, or remove the rest with pglisten log drop and make the log again with "
    "pglisten log create"
)

_VIEW, _TABLES = "_log", ("", "_position", "_state", "_consumer")


def missing_sql(names: LogNames) -> str:
    """Return the query for the row that `with_remedy` takes."""
    columns = (
        f"CAST(pg_catalog.to_regclass({quote_literal(names.qualified(suffix))}) IS NULL AS pg_catalog.text)"
        for suffix in (*_TABLES, _VIEW)
    )
    return f"{READ_COMMITTED}SELECT {', '.join(columns)}"


def with_remedy(error: ServerError, names: LogNames, row: Sequence[str | None]) -> ServerError:
    """Return *error* with a hint that says which tables are missing, and what to do."""
    lost = [suffix for suffix, gone in zip((*_TABLES, _VIEW), row, strict=True) if gone == "true"]
    if not lost:
        return error
    # Without one of its tables the view is gone too.
    tables = [suffix for suffix in lost if suffix != _VIEW] or lost
    listed = ", ".join(printable(f"{names.schema}.{names.name}{suffix}") for suffix in tables)
    hint = f"the event log {names} lacks {listed}: {REMEDY}" if len(lost) < len(row) else no_log(names)
    return ServerError(
        error.message, severity=error.severity, sqlstate=error.sqlstate, detail=error.detail, hint=hint
    )


def no_log(names: LogNames) -> str:
    """Return the text for a log of which nothing is there."""
    return f"there is no event log {names}: pglisten log create makes it"


def no_state(names: LogNames) -> ServerError:
    """Return the error for a log whose state has lost its row."""
    table = printable(f"{names.schema}.{names.name}_state")
    return ServerError(f"the event log {names} has no row in {table}", sqlstate="P0002", hint=REMEDY)
