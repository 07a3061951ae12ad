"""Collect the rows of a reply, for queries whose result is wanted (PostgreSQL docs, 55.7, DataRow)."""

from __future__ import annotations

from pglisten.backend import MAX_RESULT

__all__ = ["BadRows", "Rows"]

_HEADER = 5
"""A message's type and length, in bytes."""

_NULL = 0xFFFFFFFF
"""-1, the length that stands for NULL."""


class BadRows(Exception):
    """The server sent rows that cannot be accepted; the message says what is wrong."""


class Rows:
    """Collects the rows of the last statement of a query."""

    def __init__(self) -> None:
        self._columns: int | None = None
        """Number of columns of the current statement; ``None`` between two statements."""
        self._rows: list[tuple[str | None, ...]] = []
        self._size = 0

    def describe(self, body: bytes) -> None:
        """Begin the rows of a statement. *body* is the first part of its RowDescription."""
        if len(body) < 2:
            raise BadRows("a malformed RowDescription")
        self._columns = int.from_bytes(body[:2], "big")
        self._rows, self._size = [], 0

    def admit(self, body: int) -> None:
        """Refuse a row of *body* bytes if it exceeds the limit, before the row has arrived.

        It may be called more than once for a row.
        """
        if self._columns is None:
            raise BadRows("a row without a RowDescription")
        if self._size + _HEADER + body > MAX_RESULT:
            raise BadRows(f"more than {MAX_RESULT} bytes of rows for a short query")

    def add(self, body: bytes) -> None:
        """Add one row whose length was admitted."""
        values: list[str | None] = []
        at = 2
        for _ in range(int.from_bytes(body[:2], "big")):
            length = int.from_bytes(body[at : at + 4], "big")
            at += 4
            if length == _NULL:
                values.append(None)
                continue
            # In a database without an encoding, an application's function may return text that is not UTF-8.
            values.append(str(body[at : at + length], "utf-8", "replace"))
            at += length
        if at != len(body) or len(values) != self._columns:
            raise BadRows("a malformed row")
        self._size += _HEADER + len(body)
        self._rows.append(tuple(values))

    def complete(self) -> None:
        """End a statement. If it had no RowDescription, it returned no rows."""
        if self._columns is None:
            self._rows = []
        self._columns = None

    def result(self) -> list[tuple[str | None, ...]]:
        """Return the rows of the last completed statement."""
        return self._rows
