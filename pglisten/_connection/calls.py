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


class HasChannels(Protocol):
    """Who keeps a channel table and can have the server brought in line with it."""

    @property
    def channels(self) -> ChannelTable: ...
    def channels_changed(self) -> None: ...


def listen(require_open: Callable[[], HasChannels], channel: str, timeout: float | None) -> None:
    """Add *channel* and wait for the server's acknowledgement; out of the set again if that fails."""
    check_channel(channel)
    holder, timeout = _ready(require_open, timeout)
    completion = Completion()
    holder.channels.listen(channel, completion)
    holder.channels_changed()
    try:
        completion.wait(timeout, f"LISTEN {channel!r}")
    finally:
        if not completion.done:  # out of time, or killed
            holder.channels.abandon_listen(channel, completion)
            holder.channels_changed()


def unlisten(require_open: Callable[[], HasChannels], channel: str, timeout: float | None) -> None:
    """Remove *channel* and, where the server has it, wait until it has not."""
    check_channel(channel)
    holder, timeout = _ready(require_open, timeout)
    completion = Completion()
    holder.channels.unlisten(channel, completion)
    holder.channels_changed()
    completion.wait(timeout, f"UNLISTEN {channel!r}")


def unlisten_all(require_open: Callable[[], HasChannels], timeout: float | None) -> None:
    """Remove every channel and, where the server has them, wait until it has none."""
    holder, timeout = _ready(require_open, timeout)
    completion = Completion()
    holder.channels.unlisten_all(completion)
    holder.channels_changed()
    completion.wait(timeout, "UNLISTEN *")


def _ready(
    require_open: Callable[[], HasChannels], timeout: float | None
) -> tuple[HasChannels, float | None]:
    """Return what *require_open* does and the checked *timeout*, where the call may wait."""
    holder, checked = require_open(), check_timeout(timeout)
    check_may_wait()
    return holder, checked
