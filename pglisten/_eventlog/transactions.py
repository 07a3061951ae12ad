"""The transactions of a consumer, on the caller's connection: DB-API, SQLAlchemy or Django.

A transaction begins with its first statement.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any

from ..errors import ConfigurationError
from .cursors import Row, Run, is_sqlalchemy, runner

__all__ = ["Transactions", "transactions"]


class Transactions(ABC):
    """Runs statements in transactions of one connection."""

    @abstractmethod
    def run(self, sql: str, *values: object) -> list[Row]:
        """Run a statement, written as `cursors` says, in the transaction; begin one if there is none."""

    @abstractmethod
    def commit(self) -> None:
        """Commit the transaction."""

    @abstractmethod
    def rollback(self) -> None:
        """Roll the transaction back."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection, which is in the middle of a query: the server then rolls back."""


def transactions(connection: Any) -> Transactions:
    """Return the transactions of *connection*.

    Raises `ConfigurationError` if it commits each statement by itself, or is in a transaction, as far as its
    attributes tell; `TypeError` if it is no connection.
    """
    if hasattr(connection, "in_atomic_block"):
        return _Django(connection)
    if is_sqlalchemy(connection):
        if connection.in_transaction():
            raise _in_transaction()
        return _Plain(connection, runner(connection))
    if not all(callable(getattr(connection, each, None)) for each in ("cursor", "commit", "rollback")):
        raise TypeError(f"connection is a connection of a driver, not {type(connection).__name__}")
    if getattr(connection, "autocommit", False):
        raise autocommits()
    return _Plain(connection, None)


class _Plain(Transactions):
    """DB-API, and SQLAlchemy, which has methods of the same names."""

    def __init__(self, connection: Any, run: Run | None) -> None:
        self._connection = connection
        self._run = run

    def run(self, sql: str, *values: object) -> list[Row]:
        if self._run is not None:
            return self._run(sql, values)
        with contextlib.closing(self._connection.cursor()) as cursor:
            return runner(cursor)(sql, values)

    def commit(self) -> None:
        self._connection.commit()

    def rollback(self) -> None:
        self._connection.rollback()

    def close(self) -> None:
        if self._run is None:
            self._connection.close()
        else:  # SQLAlchemy's close() would keep the driver's connection for the next user.
            self._connection.invalidate()
            self._connection.rollback()


class _Django(Transactions):
    """Django's connection, in atomic blocks, so that ``transaction.on_commit`` works in them."""

    def __init__(self, connection: Any) -> None:
        if connection.in_atomic_block:
            raise _in_transaction()
        if not connection.get_autocommit():
            # An atomic block would not commit at its end.
            raise ConfigurationError(
                "Django's autocommit is off for connection: consume() uses atomic blocks, which need it",
                option="connection",
            )
        self._connection = connection
        # Django ships no types.
        self._transaction: Any = import_module("django.db.transaction")
        self._block: Any = None

    def run(self, sql: str, *values: object) -> list[Row]:
        if self._block is None:
            block = self._transaction.atomic(using=self._connection.alias)
            block.__enter__()
            self._block = block
        with self._connection.cursor() as cursor:
            return runner(cursor)(sql, values)

    def commit(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            block.__exit__(None, None, None)

    def rollback(self) -> None:
        block, self._block = self._block, None
        if block is not None:
            with contextlib.suppress(_RolledBack):
                error = _RolledBack()
                block.__exit__(_RolledBack, error, None)

    def close(self) -> None:
        self._connection.close()
        self.rollback()  # Leaves the atomic block.


class _RolledBack(Exception):
    """Ends an atomic block."""


def autocommits() -> ConfigurationError:
    """Return the error for a connection that commits each statement by itself."""
    return ConfigurationError(
        "connection is in autocommit mode: consume() needs transactions, so switch it off",
        option="connection",
    )


def _in_transaction() -> ConfigurationError:
    return ConfigurationError(
        "connection is in a transaction: consume() commits its own, so end that one first",
        option="connection",
    )
