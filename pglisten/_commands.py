"""Queries that wait for their turn on one connection."""

from __future__ import annotations

from collections import deque

from ._outcome import Outcome


class Command:
    """One query and its outcome."""

    def __init__(self, queue: deque[Command], sql: str, *, open_ended: bool) -> None:
        self.sql = sql
        self.open_ended = open_ended
        """The user's own SQL: it may run for as long as it likes, and its silence proves nothing."""
        self.outcome = Outcome()
        self._queue = queue

    def wait(self, timeout: float | None, what: str) -> None:
        """Wait for its outcome. If the caller is out of time or killed before it has begun, it never does."""
        try:
            self.outcome.wait(timeout, what)
        finally:
            if not self.outcome.done and self in self._queue:
                self._queue.remove(self)


class CommandQueue:
    """Commands in the order they came, and the one that runs."""

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()
        self._current: Command | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def open_ended(self) -> bool:
        """Whether an open-ended query runs now."""
        return self._current is not None and self._current.open_ended

    def put(self, sql: str, *, open_ended: bool) -> Command:
        """Queue a query."""
        command = Command(self._waiting, sql, open_ended=open_ended)
        self._waiting.append(command)
        return command

    def next(self) -> Command:
        """Begin the next one."""
        self._current = self._waiting.popleft()
        return self._current

    def finish(self, error: Exception | None) -> None:
        """End the one that runs."""
        if self._current is not None:
            self._current.outcome.resolve(error)
            self._current = None

    def fail(self, error: Exception) -> None:
        """End all of them with *error*."""
        self.finish(error)
        while self._waiting:
            self._waiting.popleft().outcome.resolve(error)
