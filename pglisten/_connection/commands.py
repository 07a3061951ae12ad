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
        wants_rows: bool,
    ) -> None:
        self.sql = sql
        self.channel = channel
        """The channel that it notifies, whose name the database must not alter; ``None``: no channel."""
        self.open_ended = open_ended
        """Whether only its own limit counts, if it has one: silence proves nothing."""
        self.rows: list[tuple[str | None, ...]] | None = [] if wants_rows else None
        """What it returned; ``None`` if its rows are discarded."""
        self.begun = False
        """Whether it was sent."""
        self._limit = limit
        self.completion = Completion()
        self._queue = queue

    def timeout(self, otherwise: float | None) -> float | None:
        """Return the seconds that the reply may take: the shorter of its own limit and *otherwise*.

        An open-ended command has its own limit only.
        """
        if self.open_ended:
            return self._limit
        if self._limit is None or otherwise is None:
            return otherwise if self._limit is None else self._limit
        return min(self._limit, otherwise)

    def wait(self, timeout: float | None, what: str, *, stated: float | None = None) -> None:
        """Wait for its end. If the caller times out or is killed before it begins, it never runs."""
        try:
            self.completion.wait(timeout, what, stated=stated)
        finally:
            self._withdraw()

    def finished_within(self, timeout: float | None) -> bool:
        """Wait for its end as `wait` does; return whether it has ended, well or not."""
        try:
            return self.completion.finished_within(timeout)
        finally:
            self._withdraw()

    def _withdraw(self) -> None:
        if not self.completion.done:
            self._queue.pop(self, None)


class CommandQueue:
    """Keep commands in order, and the one that runs."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Command, None] = OrderedDict()
        """In order. Removing one from the middle takes the same time however many wait."""
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
        wants_rows: bool = False,
    ) -> Command:
        """Queue a query. *limit* is the seconds that the reply may take after it was sent."""
        command = Command(
            self._waiting,
            sql,
            channel=channel,
            open_ended=open_ended,
            limit=limit,
            wants_rows=wants_rows,
        )
        self._waiting[command] = None
        return command

    def next(self) -> Command:
        """Remove the first command from the queue and mark it as running."""
        self._current, _ = self._waiting.popitem(last=False)
        self._current.begun = True
        return self._current

    def finish(self, error: Exception | None) -> None:
        """Complete the command that runs, with *error* if there is one."""
        if self._current is not None:
            self._current.completion.resolve(error)
            self._current = None

    def fail(self, error: Exception) -> None:
        """Complete all commands with *error*."""
        self.finish(error)
        while self._waiting:
            command, _ = self._waiting.popitem(last=False)
            command.completion.resolve(error)
