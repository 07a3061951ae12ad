"""The listener of a broadcaster."""

from __future__ import annotations

import contextlib

from .._completion import Completion
from .._connection.channels import Completable
from .._connection.live import LiveConnection
from .._deadline import Deadline
from .._listener.settings import Settings
from .._listener.supervisor import Supervisor
from ..backend import Notification
from ..errors import ChannelNotOpen, ListenerClosed
from ..listener import Listener

__all__ = ["UpstreamListener"]

RUN = 64
"""Notifications on one channel that are handed out together: each consumer wakes once for all of them."""

PER_WAKE = 4
"""Notifications of a run that take a consumer as long as to wake."""


class UpstreamListener(Listener):
    """A listener that connects only when started, and listens and unlistens without waiting.

    It differs from its base class in two respects: when it starts, and what it does in a forked child. It
    does not connect again there, because a broadcaster makes a new one in each process.
    """

    def __init__(self, settings: Settings) -> None:
        # Instead of Listener.__init__, which starts to connect.
        self._supervise(settings)

    def start(self) -> None:
        """Start to connect, unless it has started."""
        self._require_open().start()

    @property
    def state(self) -> str:
        """The name of its state, as in a listener's ``repr``."""
        return "forked" if self._supervisor.owner.forked and not self.closed else self._supervisor.state.value

    @property
    def current(self) -> LiveConnection | None:
        """The connection, if it lives and listens to all channels; else ``None``. Each has its own."""
        return self._supervisor.connection

    def outage(self) -> Exception | None:
        """Return the last error of the outage that is still on; ``None`` if there is none."""
        return self._supervisor.outage()

    def connection_by(self, deadline: Deadline) -> LiveConnection:
        """Return the connection, after the first attempt to connect has ended; raise `NotConnected`.

        It waits until *deadline* at most.
        """
        self._require_open().attempted.wait(deadline.remaining())
        return self._require_open().require_connection()

    def following(self, channel: str) -> list[Notification]:
        """Return what is queued next on *channel*, less than `RUN`, up to a gap or another channel."""
        queue, run = self._supervisor.queue, list[Notification]()
        while queue.items and len(run) < RUN - 1:
            item = queue.items[0]
            if item is None or item.channel != channel:
                break
            run.append(item)
            queue.get(0)
        return run

    def begin_listen(self, channel: str, completion: Completable) -> None:
        """Add *channel* without waiting. The server's acknowledgement resolves *completion*."""
        supervisor = self._require_open()
        supervisor.channels.listen(channel, completion)
        supervisor.channels_changed()

    def begin_unlisten(self, channel: str) -> None:
        """Remove *channel* without waiting."""
        supervisor = self._require_open()
        # The server may have refused the channel meanwhile.
        with contextlib.suppress(ChannelNotOpen):
            supervisor.channels.unlisten(channel, Completion())
            supervisor.channels_changed()

    def _require_open(self, *, even_closed: bool = False) -> Supervisor:
        # In a forked child, copies of the parent's greenlets and callbacks call this.
        if self._supervisor.owner.forked:
            raise ListenerClosed("the broadcaster's connection is its parent process's")
        return super()._require_open(even_closed=even_closed)
