"""How notifications and entries become events: the options of a stream, checked.

The HTML standard defines the format in section 9.2: lines of ``field: value``, and an empty line after each
event. The format includes one space after the colon, which protects a leading space of the value. A value
ends with its line. Data with line breaks becomes several ``data`` lines; other fields hold no line breaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .. import _options
from ..backend import Notification
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .._eventlog.entry import Entry

__all__ = ["CONTROL_CHANNEL", "GAP", "Encode", "EventForm", "EventName", "Item", "Pacing", "Retry"]

Item: TypeAlias = "Notification | Entry"
Encode: TypeAlias = "Callable[[Notification], str] | Callable[[Entry], str]"
EventName: TypeAlias = "str | Encode"
Retry: TypeAlias = "float | tuple[float, float] | None"

GAP = "gap"
"""The name of the event at a gap, where notifications may be missing."""

CONTROL_CHANNEL = "pglisten:streams"
"""The channel of `pglisten.sse.end_streams`: no stream may have it, because its payloads name users."""

BROWSER_EVENTS = frozenset({"open", "error"})
"""Events that an `EventSource` fires itself (HTML standard, 9.2.2): a page could not tell ours from them."""

LINE_BREAK = re.compile("\r\n|\r|\n")
"""The line breaks of an event stream. `str.splitlines` splits at more characters than these."""


@dataclass(frozen=True)
class EventForm:
    """What all events of a stream look like. Raises `ConfigurationError` for an option that cannot work."""

    event: EventName | None
    encode: Encode | None
    gap: str

    def __post_init__(self) -> None:
        if self.event is not None and not callable(self.event):
            _check_name("event", self.event)
        if self.encode is not None and not callable(self.encode):
            raise ConfigurationError(
                f"encode is a function of a notification, not {self.encode!r}", option="encode"
            )
        _check_name("gap", self.gap)
        if not self.gap:
            raise ConfigurationError(
                "gap is the name of an event: it has at least one character", option="gap"
            )
        if self.event == self.gap:
            raise ConfigurationError(
                f"event and gap are both {self.gap!r}: a page could not tell a notification from a gap"
            )

    def name_conflict(self, channels: Iterable[str]) -> str | None:
        """Return why *channels* cannot be those of a stream; ``None`` if they can."""
        for channel in channels:
            if channel == CONTROL_CHANNEL:
                return f"channel {channel!r} is the one that ends streams"
            what = None if self.event is not None else self._reserved_for(_without_line_breaks(channel))
            if what is not None:
                return f"channel {channel!r} has the name of {what}"
        return None

    def gap_event(self, event_id: str | None, data: str = "") -> str:
        """Return the event for a gap, where notifications may be missing."""
        field = "" if event_id is None else f"id: {event_id}\n"
        return f"{field}event: {self.gap}\ndata:{' ' if data else ''}{data}\n\n"

    def event_for(self, event_id: object, item: Item) -> str:
        """Return the event for *item*."""
        encode: Any = self.encode
        text = item.payload if encode is None else encode(item)
        if not isinstance(text, str):
            raise TypeError(f"encode must return an event's data as str, not {type(text).__name__}")
        if "\n" in text or "\r" in text:
            text = "\ndata: ".join(LINE_BREAK.split(text))
        name = self._name(item)
        field = f"event: {name}\n" if name else ""
        return f"id: {event_id}\n{field}data: {text}\n\n"

    def _name(self, item: Item) -> str:
        event: Any = item.channel if self.event is None else self.event
        name: object = event if isinstance(event, str) else event(item)
        if not isinstance(name, str):
            raise TypeError(f"event must return an event's name as str, not {type(name).__name__}")
        name = _without_line_breaks(name)
        if (what := self._reserved_for(name)) is not None:
            raise ConfigurationError(
                f"a notification's event would have the name of {what}, {name!r}: choose another name for "
                "it with event=, or for gap events with gap="
            )
        return name

    def _reserved_for(self, name: str) -> str | None:
        """Return which other events use *name*; ``None`` if none do."""
        if name == self.gap:
            return "gap events"
        return "a browser's own events" if name in BROWSER_EVENTS else None


@dataclass(frozen=True)
class Pacing:
    """When a stream does what. Raises `ConfigurationError` for an option that cannot work.

    *chance*, in the methods, is a random number from 0 to 1.
    """

    heartbeat: float
    retry: Retry
    send_timeout: float
    gap_spread: float
    max_age: float | None

    def __post_init__(self) -> None:
        _options.seconds("heartbeat", self.heartbeat)
        _options.seconds("send_timeout", self.send_timeout)
        _options.seconds("max_age", self.max_age, none_means="no limit")
        if self.gap_spread != 0 or isinstance(self.gap_spread, bool):
            _options.seconds("gap_spread", self.gap_spread)
        if not isinstance(self.retry, tuple):
            _options.seconds("retry", self.retry, none_means="the browser's own choice")
            return
        if len(self.retry) != 2:
            raise ConfigurationError(f"retry is seconds, or (low, high), not {self.retry!r}", option="retry")
        low, high = (_options.seconds("retry", value) or 0.0 for value in self.retry)
        if low > high:
            raise ConfigurationError(f"retry is (low, high), not {self.retry!r}", option="retry")

    def reconnect_delay(self, chance: float) -> float | None:
        """Return the seconds after which one browser reconnects; ``None`` if the browser decides."""
        if isinstance(self.retry, tuple):
            low, high = self.retry
            return low + (high - low) * chance
        return self.retry

    def retry_field(self, chance: float) -> str:
        """Return the field with the reconnect delay. It takes effect without an empty line."""
        delay = self.reconnect_delay(chance)
        return "" if delay is None else f"retry: {max(1, round(delay * 1000))}\n"

    def age_limit(self, chance: float) -> float | None:
        """Return the seconds that one stream may last: streams that began together end one by one."""
        return None if self.max_age is None else self.max_age * (1 - AGE_SPREAD * chance)


AGE_SPREAD = 0.1
"""The share of ``max_age`` over which the ends of streams are spread."""


def _without_line_breaks(name: str) -> str:
    """Return *name* without line breaks, which the name of an event cannot hold."""
    if "\n" in name or "\r" in name:
        name = name.replace("\r", "").replace("\n", "")
    return name


def _check_name(option: str, name: object) -> None:
    if not isinstance(name, str) or "\n" in name or "\r" in name:
        raise ConfigurationError(f"{option} is a name without line breaks, not {name!r}", option=option)
    if name in BROWSER_EVENTS:
        raise ConfigurationError(
            f"{option} is {name!r}, the name of a browser's own events: choose another", option=option
        )
