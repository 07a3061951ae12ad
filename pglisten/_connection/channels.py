"""The wanted channels, the channels the server listens to, and what to send to make them equal. Pure.

Callers change the wanted channels. The connection asks `ChannelTable.plan` what to send next and reports the
reply. One plan is in flight at a time, and the next plan is made from the state after it. So any order of
listen, unlisten, timeouts and losses ends with both sets equal.

::

    wanted  held by the server  result
    ------  ------------------  ------------------------------------------
    yes     no                  LISTEN is planned; listen() waits
    yes     yes                 listen() has its acknowledgement
    no      yes                 UNLISTEN is planned; unlisten() waits
    no      no                  unlisten() has its acknowledgement

A channel of the plan in flight is judged when the reply has arrived.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from ..errors import ChannelAlreadyOpen, ChannelNotOpen, Error, ServerError
from .plan import BATCH, Plan

_NOT_THE_CHANNEL = ("08", "25", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE (PostgreSQL docs, appendix A) of errors that the channel's name did not cause:
connection, transaction state, rollback, resources, prerequisites, intervention, system, internal."""


class Completable(Protocol):
    """What of a `Completion` this module uses; `resolve` must not switch greenlets."""

    @property
    def done(self) -> bool: ...
    def resolve(self, error: Exception | None = None) -> None: ...
    def finished_within(self, timeout: float | None) -> bool: ...


class _Countdown:
    """Completes *completion* after *count* channels, or with the first error."""

    def __init__(self, completion: Completable, count: int) -> None:
        self._completion = completion
        self._count = count
        if not count:
            completion.resolve()

    @property
    def done(self) -> bool:
        return self._completion.done

    def finished_within(self, timeout: float | None) -> bool:
        return self._completion.finished_within(timeout)

    def resolve(self, error: Exception | None = None) -> None:
        self._count -= 1
        if error is not None or not self._count:
            self._completion.resolve(error)


class ChannelTable:
    """Keep the set of wanted channels and its state on the current connection."""

    def __init__(self, channels: Iterable[tuple[str, Completable]] = ()) -> None:
        self._wanted: dict[str, Completable] = dict(channels)
        # Ordered by links: the first of a dict is behind the places of all that were taken from it before.
        self._waiting = OrderedDict((c, w) for c, w in self._wanted.items() if not w.done)
        self._leaving: dict[str, list[Completable]] = {}
        self._held: set[str] = set()
        self._under_way: set[str] = set()
        self._to_listen: OrderedDict[str, None] = OrderedDict.fromkeys(self._wanted)
        self._to_unlisten: OrderedDict[str, None] = OrderedDict()
        self._suspects: deque[Plan] = deque()
        self.caught_up = False
        """Whether the server has had, on this connection, every channel that was wanted at that moment."""
        self.abandoned: set[str] = set()
        """Channels whose ``listen()`` was abandoned before the reply: their notifications are discarded."""
        self._draining: set[str] = set()
        """Channels unlistened after they were acknowledged: notifications in flight are still delivered."""
        self._dropped: set[str] = set()
        """Channels of both sets from which nothing more comes after all that has arrived is read."""

    def __contains__(self, channel: object) -> bool:
        return channel in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def names(self) -> frozenset[str]:
        """The wanted channels, acknowledged or not."""
        return frozenset(self._wanted)

    @property
    def held(self) -> int:
        """How many channels the server has acknowledged on this connection and not unlistened since."""
        return len(self._held)

    @property
    def waiting(self) -> list[Completable]:
        """The completions of channels that were never acknowledged."""
        return list(self._waiting.values())

    def wanted(self) -> list[tuple[str, Completable]]:
        """Return the wanted channels with their completions, to start another table."""
        return list(self._wanted.items())

    # For callers

    def listen(self, channel: str, completion: Completable) -> None:
        """Add *channel*; *completion* ends when the server has acknowledged the LISTEN."""
        if channel in self._wanted:
            raise ChannelAlreadyOpen(f"channel {channel!r} is in the set already")
        self._wanted[channel] = self._waiting[channel] = completion
        self.abandoned.discard(channel)
        self._judge(channel)

    def unlisten(self, channel: str, completion: Completable) -> None:
        """Remove *channel*; *completion* ends when the server does not listen to it, or no longer does."""
        if channel not in self._wanted:
            raise ChannelNotOpen(f"channel {channel!r} is not in the set")
        replaced = self._remove(channel)
        self._leaving.setdefault(channel, []).append(completion)
        replaced.resolve(ChannelNotOpen(f"channel {channel!r} was unlistened while its LISTEN was waiting"))
        self._judge(channel)

    def unlisten_all(self, completion: Completable) -> None:
        """Remove all channels; *completion* ends when the server listens to none of them."""
        last = _Countdown(completion, len(self._wanted))
        for channel in list(self._wanted):
            self.unlisten(channel, last)

    def abandon_listen(self, channel: str, completion: Completable) -> None:
        """Remove *channel* if *completion*, whose caller is gone, is still the one that waits for it."""
        if self._wanted.get(channel) is completion:
            self._remove(channel)
            self._judge(channel)
            # For those who wait until all channels are acknowledged.
            completion.resolve()

    def _remove(self, channel: str) -> Completable:
        completion = self._wanted.pop(channel)
        if not self._waiting.pop(channel, None):
            self._draining.add(channel)
        elif channel not in self._draining and (channel in self._held or channel in self._under_way):
            self.abandoned.add(channel)
        return completion

    # For the connection

    def plan(self) -> Plan | None:
        """Return what to send next; ``None`` if the server listens to exactly the wanted channels."""
        while self._suspects:
            suspect = self._suspects.popleft()
            wanted = Plan(
                tuple(c for c in suspect.listen if c in self._wanted),
                tuple(c for c in suspect.unlisten if c not in self._wanted),
            )
            self._under_way.difference_update(suspect.listen, suspect.unlisten)
            for channel in (*suspect.listen, *suspect.unlisten):
                self._judge(channel)
            if wanted.listen or wanted.unlisten:
                return self._start(wanted)
        if not self._to_listen and not self._to_unlisten:
            return None
        if not self._wanted and len(self._to_unlisten) == len(self._held):
            return self._start(Plan((), tuple(self._to_unlisten), everything=True))
        unlisten = tuple(islice(self._to_unlisten, BATCH))
        return self._start(Plan(tuple(islice(self._to_listen, BATCH - len(unlisten))), unlisten))

    def _start(self, plan: Plan) -> Plan:
        self._under_way.update(plan.listen, plan.unlisten)
        for channel in plan.listen:
            self._to_listen.pop(channel, None)
        for channel in plan.unlisten:
            self._to_unlisten.pop(channel, None)
        return plan

    def applied(self, plan: Plan) -> None:
        """Note that the server has acknowledged *plan*."""
        self._held.update(plan.listen)
        self._finish(plan)

    def to_blame(self, plan: Plan, error: ServerError) -> bool:
        """Whether *error* is to be treated as an error of the plan's one channel, not of the connection.

        A caller that waits for the channel gets any error. A channel that was acknowledged before is removed
        only for an error that is not temporary.
        """
        if len(plan.listen) != 1 or plan.unlisten or plan.listen[0] in self._waiting:
            return True
        return error.sqlstate[:2] not in _NOT_THE_CHANNEL

    def refused(self, plan: Plan, error: Error) -> list[str]:
        """Note that the server refused *plan*; return the channels that this removes from the set.

        A refusal undoes the whole query. So a plan of several channels is sent again in halves, until the
        channel that caused the refusal is alone. Its completion gets *error*.
        """
        if len(plan.listen) + len(plan.unlisten) > 1 and not plan.everything:
            self._suspects.extend(plan.halves())
            return []
        lost = [channel for channel in plan.listen if channel in self._wanted]
        for channel in lost:
            self._waiting.pop(channel, None)
            self._wanted.pop(channel).resolve(error)
        self._finish(plan)
        return lost

    def _finish(self, plan: Plan) -> None:
        # A refused UNLISTEN cannot be mended: treat it as acknowledged.
        self._held.difference_update(plan.unlisten)
        self._under_way.difference_update(plan.listen, plan.unlisten)
        for channel in (*plan.listen, *plan.unlisten):
            self._judge(channel)

    def catch_up(self) -> None:
        """Note that nothing is left to send, and complete each listen() whose channel the server has."""
        self.caught_up = True
        for channel in [c for c in self._waiting if c in self._held]:
            self._waiting.pop(channel).resolve()

    def drained(self) -> None:
        """Note that all that has arrived is read: nothing more comes on unlistened channels."""
        for channel in self._dropped:
            if channel not in self._held and channel not in self._under_way:
                self.abandoned.discard(channel)
                self._draining.discard(channel)
        self._dropped.clear()

    def disconnected(self) -> None:
        """Note that the connection has ended: the server listens to nothing."""
        self.caught_up = False
        self._held.clear()
        self._under_way.clear()
        self._suspects.clear()
        self._to_unlisten.clear()
        self.abandoned.clear()
        self._draining.clear()
        self._dropped.clear()
        self._to_listen = OrderedDict.fromkeys(self._wanted)
        for channel in list(self._leaving):
            self._judge(channel)

    def fail(self, error: Exception) -> None:
        """End every waiting completion with *error*: no connection will follow."""
        for completion in self._waiting.values():
            completion.resolve(error)
        for completions in self._leaving.values():
            for completion in completions:
                completion.resolve(error)
        self._waiting.clear()
        self._leaving.clear()

    def _judge(self, channel: str) -> None:
        """Apply the table in the module's docstring to one channel."""
        if channel in self._under_way:
            return
        wanted, held = channel in self._wanted, channel in self._held
        self._to_listen.pop(channel, None)
        self._to_unlisten.pop(channel, None)
        if wanted and not held:
            self._to_listen[channel] = None
        elif held and not wanted:
            self._to_unlisten[channel] = None
        elif wanted and self.caught_up and channel in self._waiting:
            # Wait until a new connection has caught up: it might be lost before it counts as made.
            self._waiting.pop(channel).resolve()
        if not held and (channel in self.abandoned or channel in self._draining):
            self._dropped.add(channel)
        if not (held and not wanted):
            for completion in self._leaving.pop(channel, ()):
                completion.resolve()
