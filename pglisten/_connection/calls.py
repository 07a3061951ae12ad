"""The calls that change the set of channels, for a listener and for a single connection alike.

They check their arguments, and raise what *require_open* raises where there is no listener or connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._completion import Completion, check_timeout
from .._may_wait import check_may_wait
from .._sql import check_channel
from .channels import ChannelTable


class Channels(Protocol):
    """Who keeps a channel table and can have the server brought in line with it."""

    @property
    def channels(self) -> ChannelTable: ...
    def channels_changed(self) -> None: ...


def listen(require_open: Callable[[], Channels], channel: str, timeout: float | None) -> None:
    """Add *channel* and wait for the server's acknowledgement; out of the set again if that fails."""
    check_channel(channel)
    owner, timeout = _ready(require_open, timeout)
    claim = Completion()
    owner.channels.open(channel, claim)
    owner.channels_changed()
    try:
        claim.wait(timeout, f"LISTEN {channel!r}")
    finally:
        if not claim.done:  # out of time, or killed
            owner.channels.give_up(channel, claim)
            owner.channels_changed()


def unlisten(require_open: Callable[[], Channels], channel: str, timeout: float | None) -> None:
    """Remove *channel* and, where the server has it, wait until it has not."""
    check_channel(channel)
    owner, timeout = _ready(require_open, timeout)
    departure = Completion()
    owner.channels.close(channel, departure)
    owner.channels_changed()
    departure.wait(timeout, f"UNLISTEN {channel!r}")


def unlisten_all(require_open: Callable[[], Channels], timeout: float | None) -> None:
    """Remove every channel and, where the server has them, wait until it has none."""
    owner, timeout = _ready(require_open, timeout)
    departure = Completion()
    owner.channels.close_all(departure)
    owner.channels_changed()
    departure.wait(timeout, "UNLISTEN *")


def _ready(require_open: Callable[[], Channels], timeout: float | None) -> tuple[Channels, float | None]:
    """Return what *require_open* does and the checked *timeout*, where the call may wait."""
    owner, checked = require_open(), check_timeout(timeout)
    check_may_wait()
    return owner, checked
