"""Runs SQL over what the caller has: a driver's cursor, SQLAlchemy's connection or session, Django's cursor.

Statements are written with ``%s`` for a value and ``%%`` for a percent sign. Values travel as parameters, so
that payloads appear in no statement that a driver logs or that an APM agent records.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, TypeAlias

__all__ = ["Row", "Run", "is_sqlalchemy", "runner", "sqlstate"]

Row: TypeAlias = tuple[Any, ...]

Run: TypeAlias = Callable[[str, Sequence[object]], list[Row]]
"""Runs a statement with its values, and returns its rows; ``[]`` if it returns none."""


def runner(cursor: Any) -> Run:
    """Return a function that runs statements over *cursor*, in its transaction.

    Raises `TypeError` if *cursor* cannot run a statement, or is asynchronous.
    """
    if is_sqlalchemy(cursor):
        return _over_sqlalchemy(_not_async(cursor, cursor.execute))
    if callable(getattr(cursor, "execute", None)):
        return _over_cursor(cursor, _not_async(cursor, cursor.execute))
    if callable(getattr(cursor, "run", None)) and not hasattr(cursor, "cursor"):
        return _over_native(_not_async(cursor, cursor.run))
    raise TypeError(
        f"cursor is a cursor of a driver, SQLAlchemy's connection or session, or Django's cursor, "
        f"not {type(cursor).__name__}"
    )


def is_sqlalchemy(what: object) -> bool:
    """Return whether *what* is SQLAlchemy's, or of a class derived from one of SQLAlchemy's."""
    return any(kind.__module__.partition(".")[0] == "sqlalchemy" for kind in type(what).__mro__)


def sqlstate(error: BaseException | None) -> str | None:
    """Return the server's five-character code from the error of any driver; ``None`` if it has none.

    SQLAlchemy and Django raise their own errors, with the driver's as cause.
    """
    while error is not None:
        code: Any = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        fields: Any = error.args[0] if error.args else None
        if code is None and isinstance(fields, Mapping):  # pg8000
            code = fields.get("C")  # pyright: ignore[reportUnknownMemberType,reportUnknownVariableType]
        if code is not None:
            return str(code)  # pyright: ignore[reportUnknownArgumentType]
        error = error.__cause__
    return None


def _over_cursor(cursor: Any, execute: Callable[..., Any]) -> Run:
    # pg8000 has a variable for the style of its parameters. Other drivers of PostgreSQL take %s.
    module = type(cursor).__module__
    style: str | None = None
    if module.partition(".")[0] == "pg8000":
        style = getattr(sys.modules.get(module), "paramstyle", None)

    def run(sql: str, values: Sequence[object]) -> list[Row]:
        done = execute(*_rendered(sql, values, style))
        # A connection of psycopg 3 has execute() too, which returns a cursor.
        answered = cursor if hasattr(cursor, "description") else done
        return _rows(answered.fetchall()) if answered.description else []

    return run


def _over_sqlalchemy(execute: Callable[..., Any]) -> Run:
    text = import_module("sqlalchemy").text

    def run(sql: str, values: Sequence[object]) -> list[Row]:
        named, parameters = _named(sql.replace(":", "\\:"), values)
        result = execute(text(named), parameters)
        return _rows(result.fetchall()) if result.returns_rows else []

    return run


def _over_native(execute: Callable[..., Any]) -> Run:
    """Return the function for a connection of ``pg8000.native``, which has ``run()`` and no cursors."""

    def run(sql: str, values: Sequence[object]) -> list[Row]:
        named, parameters = _named(sql, values)
        return _rows(execute(named, **parameters) or ())

    return run


def _rendered(sql: str, values: Sequence[object], style: str | None) -> tuple[Any, ...]:
    """Return the arguments of ``execute``; *style* is pg8000's, ``None`` for other drivers."""
    if not values:  # Then drivers look for no placeholders.
        return (sql.replace("%%", "%"),)
    if style is None:
        return sql, tuple(values)
    if style == "named":
        return _named(sql, values)
    marks = {"qmark": "?", "numeric": ":{}"}.get(style, "%s")
    # pg8000 leaves quoted names alone: a percent sign in them is not doubled.
    return _filled(sql, [marks.format(number) for number in range(1, len(values) + 1)]), tuple(values)


def _named(sql: str, values: Sequence[object]) -> tuple[str, dict[str, object]]:
    parameters = {f"p{number}": value for number, value in enumerate(values)}
    return _filled(sql, [f":{name}" for name in parameters]), parameters


def _filled(sql: str, marks: Iterable[str]) -> str:
    names = iter(marks)
    # One pass from left to right: the name "a%s" is written "a%%s", which holds no placeholder.
    return re.sub("%%|%s", lambda found: "%" if found[0] == "%%" else next(names), sql)


def _rows(rows: Iterable[Any]) -> list[Row]:
    """Return rows as tuples. The caller's cursor may return mappings: its statements have named columns."""
    return [tuple(row.values()) if isinstance(row, Mapping) else tuple(row) for row in rows]  # pyright: ignore[reportUnknownArgumentType,reportUnknownMemberType]


def _not_async(cursor: object, method: Callable[..., Any]) -> Callable[..., Any]:
    if iscoroutinefunction(method):
        # Its result would never be awaited, and the entry be missing without an error.
        raise TypeError(f"cursor is asynchronous ({type(cursor).__name__}), and pglisten runs under gevent")
    return method
