"""Queries that wait for their turn on one connection."""

from __future__ import annotations

from collections import OrderedDict

from .._completion import Completion


class Command:
    """One query and its completion."""

    def __init__(
        self,
        queue: OrderedDict[Command, None],
        sql: str,
        *,
        channel: str | None,
        open_ended: bool,
        limit: float | None,
    ) -> None:
        self.sql = sql
        self.channel = channel
        """The channel that it names, which the database has to keep as it is written."""
        self.open_ended = open_ended
        """The user's own SQL: it may run for as long as it likes, and its silence proves nothing."""
        self.begun = False
        """Whether it has had its turn, or has it now."""
        self._limit = limit
        self.completion = Completion()
        self._queue = queue

    def timeout(self, otherwise: float | None) -> float | None:
        """Return the seconds that its answer may take, *otherwise* if it has no shorter limit of its own."""
        if self.open_ended:
            return None
        if self._limit is None or otherwise is None:
            return otherwise if self._limit is None else self._limit
        return min(self._limit, otherwise)

    def wait(self, timeout: float | None, what: str) -> None:
        """Wait for its end. If the caller times out or is killed before it begins, it never runs."""
        try:
            self.completion.wait(timeout, what)
        finally:
            self._withdraw()

    def finished_within(self, timeout: float | None) -> bool:
        """Wait for its end as `wait` does, and return whether it came."""
        try:
            return self.completion.finished_within(timeout)
        finally:
            self._withdraw()

    def _withdraw(self) -> None:
        if not self.completion.done:
            self._queue.pop(self, None)


class CommandQueue:
    """Commands in the order they came, and the one that runs."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Command, None] = OrderedDict()
        """In order; a caller that gives up is found at once, however many others wait."""
        self._current: Command | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def open_ended(self) -> bool:
        """Whether an open-ended query runs now."""
        return self._current is not None and self._current.open_ended

    def put(
        self,
        sql: str,
        *,
        channel: str | None = None,
        open_ended: bool = False,
        limit: float | None = None,
    ) -> Command:
        """Queue a query; *limit* is the seconds from its beginning that its answer may take."""
        command = Command(self._waiting, sql, channel=channel, open_ended=open_ended, limit=limit)
        self._waiting[command] = None
        return command

    def next(self) -> Command:
        """Begin the next one."""
        self._current, _ = self._waiting.popitem(last=False)
        self._current.begun = True
        return self._current

    def finish(self, error: Exception | None) -> None:
        """End the one that runs."""
        if self._current is not None:
            self._current.completion.resolve(error)
            self._current = None

    def fail(self, error: Exception) -> None:
        """End all of them with *error*."""
        self.finish(error)
        while self._waiting:
            command, _ = self._waiting.popitem(last=False)
            command.completion.resolve(error)
