"""Checks the options of listeners and connections when they are given, not at their first use."""

from __future__ import annotations

import math
from collections.abc import Callable

from .errors import ConfigurationError


def seconds(name: str, value: float | None, *, none_means: str | None = None) -> float | None:
    """Return *value* as seconds above 0; ``None`` is accepted only if *none_means* says what it means."""
    if value is None and none_means is not None:
        return None
    wanted = "seconds above 0" if none_means is None else f"seconds above 0, or None ({none_means})"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"{name} is {wanted}, not {value!r}", option=name)
    if not (value > 0 and math.isfinite(value)):
        raise ConfigurationError(f"{name} is {wanted}, not {value!r}", option=name)
    return float(value)


def intervals(minimum: float, maximum: float, *, default_maximum: float) -> tuple[float, float]:
    """Return the reconnect intervals in seconds: above 0, and the minimum not above the maximum.

    If they contradict one another, the error names the one that differs from its default.
    """
    low, high = seconds("min_reconnect_interval", minimum), seconds("max_reconnect_interval", maximum)
    assert low is not None
    assert high is not None
    if high < low:
        raise ConfigurationError(
            f"max_reconnect_interval ({high:g} s) is below min_reconnect_interval ({low:g} s): "
            "raise the first or lower the second",
            option="min_reconnect_interval" if high == default_maximum else "max_reconnect_interval",
        )
    return low, high


def fraction(name: str, value: float) -> float:
    """Return *value*, from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigurationError(f"{name} is a number from 0 (off) to 1, not {value!r}", option=name)
    return float(value)


def queue_size(value: int) -> int:
    """Return *value*, a number of notifications above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(
            f"queue_size is a number of notifications from 1 up, not {value!r}", option="queue_size"
        )
    return value


def drops_oldest(overflow: str) -> bool:
    """Return whether *overflow* asks to drop the oldest."""
    if overflow not in ("block", "drop_oldest"):
        raise ConfigurationError(f"overflow is 'block' or 'drop_oldest', not {overflow!r}", option="overflow")
    return overflow == "drop_oldest"


def callback(value: Callable[..., object] | None) -> None:
    """Raise `ConfigurationError` if *value* is neither callable nor ``None``."""
    if value is not None and not callable(value):
        raise ConfigurationError(
            f"event_callback is a function of (event, error), not {value!r}", option="event_callback"
        )


def on_gap(value: Callable[..., object] | None) -> None:
    """Raise `ConfigurationError` if *value* is neither callable nor ``None``."""
    if value is not None and not callable(value):
        raise ConfigurationError(f"on_gap is a function without arguments, not {value!r}", option="on_gap")
