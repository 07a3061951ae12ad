"""The calls that change the set of channels, for a listener and for a single connection alike."""

from __future__ import annotations

from typing import Protocol

from .._completion import Completion
from .._may_wait import check_may_wait
from .._sql import check_channel
from .channels import ChannelTable


class Channels(Protocol):
    """Who keeps a channel table and can have the server brought in line with it."""

    @property
    def channels(self) -> ChannelTable: ...
    def channels_changed(self) -> None: ...


def listen(owner: Channels, channel: str, timeout: float | None) -> None:
    """Add *channel* and wait for the server's acknowledgement; out of the set again if that fails."""
    check_channel(channel)
    check_may_wait()
    claim = Completion()
    owner.channels.open(channel, claim)
    owner.channels_changed()
    try:
        claim.wait(timeout, f"LISTEN {channel!r}")
    finally:
        if not claim.done:  # out of time, or killed
            owner.channels.give_up(channel, claim)
            owner.channels_changed()


def unlisten(owner: Channels, channel: str, timeout: float | None) -> None:
    """Remove *channel* and, where the server has it, wait until it has not."""
    check_channel(channel)
    check_may_wait()
    departure = Completion()
    owner.channels.close(channel, departure)
    owner.channels_changed()
    departure.wait(timeout, f"UNLISTEN {channel!r}")


def unlisten_all(owner: Channels, timeout: float | None) -> None:
    """Remove every channel and, where the server has them, wait until it has none."""
    check_may_wait()
    departure = Completion()
    owner.channels.close_all(departure)
    owner.channels_changed()
    departure.wait(timeout, "UNLISTEN *")
