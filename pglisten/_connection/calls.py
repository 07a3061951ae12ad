"""listen(), unlisten() and unlisten_all() for a listener and for a single connection.

They check their arguments. They raise what *require_open* raises if the listener or connection is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .._completion import Completion, check_timeout
from .._may_wait import check_may_wait
from .._sql import check_channel
from .channels import ChannelTable


class HasChannels(Protocol):
    """Keeps a channel table, and sends what the table plans after `channels_changed`."""

    @property
    def channels(self) -> ChannelTable: ...
    def outage(self) -> Exception | None: ...
    def channels_changed(self) -> None: ...


def listen(require_open: Callable[[], HasChannels], channel: str, timeout: float | None) -> None:
    """Add *channel* and wait for the server's acknowledgement. If that fails, remove *channel* again."""
    check_channel(channel)
    holder, timeout = _ready(require_open, timeout)
    completion = Completion()
    holder.channels.listen(channel, completion)
    holder.channels_changed()
    try:
        completion.wait(timeout, f"LISTEN {channel!r}", outage=holder.outage)
    finally:
        if not completion.done:  # The caller timed out or was killed.
            holder.channels.abandon_listen(channel, completion)
            holder.channels_changed()


def unlisten(require_open: Callable[[], HasChannels], channel: str, timeout: float | None) -> None:
    """Remove *channel*. If the server listens to it, wait until the server has stopped."""
    check_channel(channel)
    holder, timeout = _ready(require_open, timeout)
    completion = Completion()
    holder.channels.unlisten(channel, completion)
    holder.channels_changed()
    completion.wait(timeout, f"UNLISTEN {channel!r}")


def unlisten_all(require_open: Callable[[], HasChannels], timeout: float | None) -> None:
    """Remove all channels. If the server listens to any, wait until it listens to none."""
    holder, timeout = _ready(require_open, timeout)
    completion = Completion()
    holder.channels.unlisten_all(completion)
    holder.channels_changed()
    completion.wait(timeout, "UNLISTEN *")


def _ready(
    require_open: Callable[[], HasChannels], timeout: float | None
) -> tuple[HasChannels, float | None]:
    """Return what *require_open* returns, and the checked timeout; raise `Error` if nothing may wait."""
    holder, checked = require_open(), check_timeout(timeout)
    check_may_wait()
    return holder, checked
