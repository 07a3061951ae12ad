"""What a consumer does with a subscription, or with a follower of a log: one item after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..errors import Error
from .consumer import Consumer

__all__ = ["Source", "Stream"]


class Source(Protocol):
    """A subscription, or a follower of a log."""

    @property
    def closed(self) -> bool: ...
    def get(self) -> Any: ...
    def close(self) -> None: ...


class Stream:
    """Call *function* for each item of a source, and *on_gap* at the start and where items are missing.

    An item for which *function* has raised is skipped, and *on_gap* is called again, before the next one.
    With *repeats* the function gets the same item again, if there is no *on_gap* to make up for it.
    """

    def __init__(  # noqa: PLR0917
        self,
        consumer: Consumer,
        open_source: Callable[[], Source],
        function: Callable[[Any], object],
        on_gap: Callable[[], object] | None,
        ended: Callable[[], bool],
        repeats: bool = False,
    ) -> None:
        self._consumer = consumer
        self._open = open_source
        self._function = function
        self._on_gap = on_gap
        self._ended = ended
        self._repeats = repeats and on_gap is None
        self._source: Source | None = None
        self._behind = True
        """Whether to call ``on_gap`` before the next item."""
        self._again: Any = None
        """The item that the function gets again."""

    @property
    def closed(self) -> bool:
        return self._ended()

    def run(self) -> None:
        if self._source is None:
            self._source = self._open()
            self._behind = True
        while True:
            if self._behind and self._on_gap is not None:
                self._consumer.call(self._on_gap)
            self._behind = False
            item = self._again if self._again is not None else self._next(self._source)
            self._behind = True  # Until the function has returned.
            if item is None:
                if self._on_gap is None:
                    self._consumer.warn_of_gap()
            else:
                self._again = item if self._repeats else None
                self._consumer.call(self._function, item)
                self._again, self._behind = None, False

    def _next(self, source: Source) -> Any:
        try:
            return source.get()
        except Error:
            if source.closed:
                self._source = None
            raise

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
