"""What a named consumer of `EventLog.on` does: one batch after another, over one connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

from .._consumers.consumer import Consumer
from .consumer import Batch, Ended

__all__ = ["Batches"]

Read: TypeAlias = Callable[[Any, Ended], Generator[Batch, None, None]]
"""Yields batches over a connection; it calls the function after each commit."""


class Batches:
    """Call *function* with each batch that *read* yields, and with the connection that *connect* returned.

    After a failure the connection is closed, and the batch comes again over another one. *on_gap* is called
    with the connection where ``trim`` has removed entries.
    """

    def __init__(  # noqa: PLR0917
        self,
        consumer: Consumer,
        connect: Callable[[], Any],
        read: Read,
        function: Callable[[Any, Any], object],
        on_gap: Callable[[Any], object] | None,
        ended: Ended,
    ) -> None:
        self._consumer = consumer
        self._connect = connect
        self._read = read
        self._function = function
        self._on_gap = on_gap
        self._ended = ended
        self._connection: Any = None

    @property
    def closed(self) -> bool:
        return self._ended()

    def run(self) -> None:
        self._connection = self._connect()
        try:
            self._consumer.check()
            with contextlib.closing(self._read(self._connection, self._committed)) as batches:
                for batch in batches:
                    self._consumer.check()
                    # Until its commit: a consumer that is stopped may finish the transaction.
                    self._consumer.busy = True
                    self._work_on(batch)
        finally:
            self._consumer.busy = False
            self.close()

    def _work_on(self, batch: Batch) -> None:
        if batch is not None:
            self._function(batch, self._connection)
        elif self._on_gap is not None:
            self._on_gap(self._connection)
        else:
            self._consumer.warn_of_gap()

    def _committed(self) -> bool:
        self._consumer.busy = False
        self._consumer.succeeded()
        return self._consumer.ending

    def close(self) -> None:
        connection, self._connection = self._connection, None
        # A connection that is lost, or whose query was interrupted, may raise.
        with contextlib.suppress(Exception):
            if connection is not None:
                connection.close()
