"""The listener below a broadcaster."""

from __future__ import annotations

import contextlib

from .._completion import Completion
from .._connection.channels import Completable
from .._listener.settings import Settings
from .._listener.supervisor import Supervisor
from ..errors import ChannelNotOpen, ListenerClosed
from ..listener import Listener

__all__ = ["UpstreamListener"]


class UpstreamListener(Listener):
    """A listener that does not start by itself, and does not go on in a forked child: that makes another."""

    def __init__(self, settings: Settings) -> None:
        # Not the listener's own: it would begin to connect.
        self._supervise(settings)

    def start(self) -> None:
        """Begin to connect; nothing if that has begun."""
        self._require_open().start()

    @property
    def state(self) -> str:
        """What its ``repr`` calls its state."""
        return "forked" if self._supervisor.owner.forked and not self.closed else self._supervisor.state.value

    def wait_attempted(self, timeout: float | None) -> None:
        """Wait, *timeout* seconds at most, until a first attempt to connect has succeeded or failed."""
        self._require_open().attempted.wait(timeout)

    def begin_listen(self, channel: str, completion: Completable) -> None:
        """Add *channel*; *completion* is resolved when the server has acknowledged it. Never waits."""
        supervisor = self._require_open()
        supervisor.channels.listen(channel, completion)
        supervisor.channels_changed()

    def begin_unlisten(self, channel: str) -> None:
        """Remove *channel*. Never waits."""
        supervisor = self._require_open()
        # The server may have refused it meanwhile.
        with contextlib.suppress(ChannelNotOpen):
            supervisor.channels.unlisten(channel, Completion())
            supervisor.channels_changed()

    def _require_open(self, *, even_closed: bool = False) -> Supervisor:
        # Copies of the parent's greenlets and callbacks come here in a forked child.
        if self._supervisor.owner.forked:
            raise ListenerClosed("the broadcaster's connection is its parent process's")
        return super()._require_open(even_closed=even_closed)
