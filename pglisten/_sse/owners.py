"""Who holds which streams: the limit for each owner, and the end of all streams of one.

The processes tell one another over a channel of the database, to which each listens as long as it has had an
owner. An owner counts from before the request is authorised. So there is no moment between a check of the
owner's rights and the stream at which a revocation would be missed. If notifications on the channel may be
missing, all streams with an owner end: their clients come back and are authorised again.
"""

from __future__ import annotations

import logging
import weakref
from typing import Protocol

from .._completion import Completion
from .._greenlet import Greenlet, let_others_run, spawn
from .._ownership import Owner
from ..broadcast import Broadcaster, outage_of
from ..errors import Error, ListenerClosed, without_frames
from .form import CONTROL_CHANNEL

__all__ = ["Admission", "Owners"]

logger = logging.getLogger("pglisten.sse")

PORTION = 100
"""Streams that end before other greenlets run: about a millisecond."""

QUEUE_SIZE = 1024
"""Revocations that may wait. If more come at once, all streams with an owner end."""


class Revocable(Protocol):
    """The part of an event stream that ends it for lack of rights."""

    def revoke(self) -> None:
        """End the stream without what is queued. Never waits."""


class Admission:
    """One request or stream of an owner, from before it is authorised until it is closed or dropped."""

    __slots__ = ("__weakref__", "_owners", "_stream", "owner", "revoked")

    def __init__(self, owners: Owners, owner: str) -> None:
        self._owners = owners
        self._stream: weakref.ref[Revocable] | None = None
        self.owner = owner
        self.revoked = False
        """Whether the rights of the owner have changed since."""

    def attach(self, stream: Revocable) -> None:
        """Note the stream that has been opened; end it if the rights have changed meanwhile."""
        self._stream = weakref.ref(stream)
        if self.revoked:
            stream.revoke()

    def revoke(self) -> None:
        """End the stream, or let it end at once when it is opened. Never waits."""
        self.revoked = True
        stream = None if self._stream is None else self._stream()
        if stream is not None:
            stream.revoke()

    def release(self) -> None:
        """Count no longer. Idempotent."""
        self._owners.discard(self)

    def __del__(self) -> None:
        self._owners.discard(self)


class Owners:
    """The owners of the streams of one broadcaster in this process."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self.process = Owner()
        self._broadcaster = broadcaster
        self._admissions: dict[str, weakref.WeakSet[Admission]] = {}
        self._ready = Completion()
        """Resolved when the server has acknowledged the channel."""
        self._greenlet: Greenlet | None = None

    def listen(self, timeout: float | None) -> None:
        """Return when this process hears of every revocation.

        Waits through reconnections. Raises `OperationTimeout` after *timeout* seconds, the server's refusal,
        or `ListenerClosed`.
        """
        if self._greenlet is not None and self._greenlet.dead:
            self._ended(self._greenlet)
        if self._greenlet is None:
            self._ready = Completion()
            self._greenlet = spawn("pglisten-stream-owners", self._run)
            # If it is killed from outside (gevent.killall): no revocation may go unheard.
            self._greenlet.rawlink(self._ended)
        if not self._ready.done or self._ready.failed:
            what = f"LISTEN {CONTROL_CHANNEL!r}"
            self._ready.wait(timeout, what, outage=lambda: outage_of(self._broadcaster))

    def count(self, owner: str) -> int:
        """Return how many requests and streams *owner* has in this process."""
        return len(self._admissions.get(owner, ()))

    def admit(self, owner: str) -> Admission:
        """Count one more."""
        admission = Admission(self, owner)
        self._admissions.setdefault(owner, weakref.WeakSet()).add(admission)
        return admission

    def discard(self, admission: Admission) -> None:
        """Count *admission* no longer. Idempotent."""
        admissions = self._admissions.get(admission.owner)
        if admissions is not None:
            admissions.discard(admission)
            if not admissions:
                self._admissions.pop(admission.owner, None)

    # The greenlet

    def _run(self) -> None:
        try:
            with self._broadcaster.subscribe(CONTROL_CHANNEL, queue_size=QUEUE_SIZE) as revocations:
                self._ready.resolve()
                while True:
                    item = revocations.get()
                    self._revoke(None if item is None else item.payload)
        except ListenerClosed as error:
            self._ready.resolve(without_frames(error))
        except Error as error:
            if self._ready.done:  # Otherwise the requests that wait for it are refused, and that is logged.
                logger.error("the streams of all owners end, because revocations are not heard: %s", error)
            self._ready.resolve(without_frames(error))

    def _revoke(self, owner: str | None) -> None:
        """End the streams of *owner*; ``None``: of all owners, because revocations may be missing."""
        for number, admission in enumerate(self._of(owner), 1):
            admission.revoke()
            if not number % PORTION:
                let_others_run()

    def _of(self, owner: str | None) -> list[Admission]:
        if owner is not None:
            return list(self._admissions.get(owner, ()))
        return [admission for admissions in list(self._admissions.values()) for admission in admissions]

    def _ended(self, greenlet: Greenlet) -> None:
        if self.process.forked or greenlet is not self._greenlet:
            return
        self._greenlet = None
        self._ready.resolve(ListenerClosed("the greenlet that hears of revocations was killed"))
        for admission in self._of(None):
            admission.revoke()
