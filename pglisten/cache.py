"""A cache in each process, which forgets a key when a notification says that its value has changed.

For instance::

    prices = Cache(broadcaster, "prices", read_price)    # notified with the key, by a trigger
    prices.get("tea")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from greenlet import getcurrent

from .backend import Notification
from .broadcast import Broadcaster
from .errors import ConfigurationError

__all__ = ["Cache"]

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """Keep what *load* returns for a key, until a notification on *channel* has the key as its payload.

    An empty payload, a gap and a lost connection make it forget everything. It keeps values only while the
    broadcaster is connected and started: see `Broadcaster.start`. Otherwise each ``get()`` calls *load*.

    *load* is called with a key, in the greenlet that asks. It reads what is committed at that moment: not in
    a transaction with an older snapshot, and not from a replica. *size* is the most keys that are kept.

    Raises what `Broadcaster.on` raises, and `ConfigurationError` for a wrong *size* or *load*.
    """

    def __init__(
        self, broadcaster: Broadcaster, channel: str, load: Callable[[str], Value], *, size: int = 10_000
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigurationError(f"size is a number of keys from 1 up, not {size!r}", option="size")
        if not callable(load):
            raise ConfigurationError(f"load is a function of a key, not {load!r}", option="load")
        self._broadcaster = broadcaster
        self._load = load
        self._size = size
        self._values: dict[str, Value] = {}
        self._loading: dict[str, object] = {}
        """The newest load of each key that is being read, unless a change of the key came meanwhile."""
        self._connection: object | None = None
        """The connection on which every change since the cache was empty has arrived, or will."""
        self._consumer: Any = None
        """The greenlet that hears of the changes."""
        broadcaster.on(channel, on_gap=self._on_gap)(self._changed)

    def get(self, key: str) -> Value:
        """Return the value of *key*, from the cache if it is there. Raises what ``load`` raises.

        A change is seen when its notification has arrived: milliseconds after its commit. Until a lost
        connection is noticed, values may be out of date: for ``heartbeat_interval`` and
        ``heartbeat_timeout`` at most.
        """
        if not self._hears():
            return self._load(key)
        if key in self._values:
            return self._values[key]
        loading = self._loading[key] = object()
        try:
            value = self._load(key)
        finally:
            # A change that came during the read may not be in what it has read.
            unchanged = self._loading.get(key) is loading
            if unchanged:
                del self._loading[key]
        if unchanged:
            if len(self._values) >= self._size:
                del self._values[next(iter(self._values))]
            self._values[key] = value
        return value

    def _hears(self) -> bool:
        """Whether each change that the values lack will arrive. Not after a loss, until they are cleared."""
        connection = self._connection
        return connection is not None and connection is self._current() and not self._consumer.dead

    def _changed(self, notification: Notification) -> None:
        if notification.payload:
            self._values.pop(notification.payload, None)
            self._loading.pop(notification.payload, None)
        else:
            self._forget()

    def _forget(self) -> None:
        self._values.clear()
        self._loading.clear()

    def _on_gap(self) -> None:
        # The subscription may be acknowledged a moment before the broadcaster counts as connected.
        self._broadcaster.wait_connected()
        self._forget()
        self._consumer = getcurrent()
        self._connection = self._current()

    def _current(self) -> object | None:
        return self._broadcaster._fan_out.upstream.current  # pyright: ignore[reportPrivateUsage]
