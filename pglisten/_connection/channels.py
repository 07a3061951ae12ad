"""Which channels are wanted, which of them the server has, and what to send so that the two agree. Pure.

Callers change what is wanted; the connection asks `ChannelTable.plan` what to send next and reports what
came of it. One plan is under way at a time, and the next is drawn up from the state after it, so that any
order of listen, unlisten, time-outs and losses ends in agreement: there is no other bookkeeping to forget.

::

    wanted  held by the server  so
    ------  ------------------  --------------------------------------
    yes     no                  LISTEN is planned; the completion waits
    yes     yes                 the completion is acknowledged
    no      yes                 UNLISTEN is planned; who leaves waits
    no      no                  nothing; who leaves is told so

A channel that is part of the plan under way is judged when the answer is there.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Container, Iterable
from itertools import islice
from typing import NamedTuple, Protocol

from .._sql import UNLISTEN_ALL, sync_statement
from ..errors import ChannelAlreadyOpen, ChannelNotOpen, Error, ServerError

_NOT_THE_CHANNEL = ("08", "25", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE (PostgreSQL docs, appendix A) that say nothing against a channel's name: connection,
transaction state, rollback, resources, prerequisites, intervention, system, internal."""

BATCH = 1000
"""Channels in one query. Large enough that a thousand cost one round trip; small enough that the answer
to one query, a message for each channel, does not hold up the hub."""


class Completable(Protocol):
    """Whoever waits for an answer; `resolve` must not switch greenlets."""

    @property
    def done(self) -> bool: ...
    def resolve(self, error: Exception | None = None) -> None: ...
    def finished_within(self, timeout: float | None) -> bool: ...


class Plan(NamedTuple):
    """One query: the channels it drops and adds."""

    listen: tuple[str, ...]
    unlisten: tuple[str, ...]
    everything: bool = False
    """Drop whatever there is; ``unlisten`` names what that is."""

    @property
    def sql(self) -> str:
        """The query's text."""
        return UNLISTEN_ALL if self.everything else sync_statement(self.listen, self.unlisten)

    def without(self, channels: Container[str]) -> Plan:
        """Return the plan that adds none of *channels*."""
        return self._replace(listen=tuple(channel for channel in self.listen if channel not in channels))

    def halves(self) -> tuple[Plan, Plan]:
        """Return two smaller plans that do the same."""
        middle = (len(self.unlisten) + len(self.listen)) // 2
        rest = max(0, middle - len(self.unlisten))
        return (
            Plan(self.listen[:rest], self.unlisten[:middle]),
            Plan(self.listen[rest:], self.unlisten[middle:]),
        )


class _Countdown:
    """A completion for several channels: resolves another with the last of them, or the first error."""

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
    """The set of channels and its state on the current connection."""

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
        """Of both, those that bring nothing more once all that has arrived is read."""

    def __contains__(self, channel: object) -> bool:
        return channel in self._wanted

    def __len__(self) -> int:
        return len(self._wanted)

    @property
    def names(self) -> frozenset[str]:
        """What is wanted, acknowledged or not."""
        return frozenset(self._wanted)

    @property
    def waiting(self) -> list[Completable]:
        """Who waits for a channel to be acknowledged for the first time."""
        return list(self._waiting.values())

    def wanted(self) -> list[tuple[str, Completable]]:
        """Return the wanted channels and who waits for each, to start another table with."""
        return list(self._wanted.items())

    # What callers want

    def listen(self, channel: str, completion: Completable) -> None:
        """Want *channel*; *completion* is resolved when the server has acknowledged it."""
        if channel in self._wanted:
            raise ChannelAlreadyOpen(f"channel {channel!r} is in the set already")
        self._wanted[channel] = self._waiting[channel] = completion
        self.abandoned.discard(channel)
        self._judge(channel)

    def unlisten(self, channel: str, completion: Completable) -> None:
        """Want *channel* no more; *completion* is resolved when the server does not have it (any more)."""
        if channel not in self._wanted:
            raise ChannelNotOpen(f"channel {channel!r} is not in the set")
        replaced = self._remove(channel)
        self._leaving.setdefault(channel, []).append(completion)
        replaced.resolve(ChannelNotOpen(f"channel {channel!r} was unlistened while its LISTEN was waiting"))
        self._judge(channel)

    def unlisten_all(self, completion: Completable) -> None:
        """Want nothing any more; *completion* is resolved when the server has none of it."""
        last = _Countdown(completion, len(self._wanted))
        for channel in list(self._wanted):
            self.unlisten(channel, last)

    def abandon_listen(self, channel: str, completion: Completable) -> None:
        """Remove *channel* if *completion*, whose caller is gone, is still the one that waits for it."""
        if self._wanted.get(channel) is completion:
            self._remove(channel)
            self._judge(channel)

    def _remove(self, channel: str) -> Completable:
        completion = self._wanted.pop(channel)
        if not self._waiting.pop(channel, None):
            self._draining.add(channel)
        elif channel not in self._draining and (channel in self._held or channel in self._under_way):
            self.abandoned.add(channel)
        return completion

    # What the connection does about it

    def plan(self) -> Plan | None:
        """Return what to send next, or ``None`` if the server has exactly what is wanted."""
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
        """Whether *error* tells against the one channel of *plan*, rather than against the connection.

        Somebody who waits for the channel gets the error, whatever it is. A channel that was open before
        is given up only for what will not pass.
        """
        if len(plan.listen) != 1 or plan.unlisten or plan.listen[0] in self._waiting:
            return True
        return error.sqlstate[:2] not in _NOT_THE_CHANNEL

    def refused(self, plan: Plan, error: Error) -> list[str]:
        """Note that the server refused *plan*; return the channels that are out of the set for it.

        A refusal undoes the whole query, so a plan of several is tried again in halves until the one
        channel that is to blame is alone. Its completion gets *error*.
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
        # An UNLISTEN that the server refuses leaves nothing to try: it is forgotten like one that passed.
        self._held.difference_update(plan.unlisten)
        self._under_way.difference_update(plan.listen, plan.unlisten)
        for channel in (*plan.listen, *plan.unlisten):
            self._judge(channel)

    def catch_up(self) -> None:
        """Note that nothing is left to send: acknowledge what this connection had to catch up on."""
        self.caught_up = True
        for channel in [c for c in self._waiting if c in self._held]:
            self._waiting.pop(channel).resolve()

    def drained(self) -> None:
        """Note that all that has arrived is read: channels that the server has dropped bring nothing more."""
        for channel in self._dropped:
            if channel not in self._held and channel not in self._under_way:
                self.abandoned.discard(channel)
                self._draining.discard(channel)
        self._dropped.clear()

    def disconnected(self) -> None:
        """Note that the connection is gone and with it all that the server had."""
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
        """Resolve everyone who waits with *error*: nobody will carry anything out any more."""
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
            # Until a new connection has caught up, nobody is told: it might be lost before it counts.
            self._waiting.pop(channel).resolve()
        if not held and (channel in self.abandoned or channel in self._draining):
            self._dropped.add(channel)
        if not (held and not wanted):
            for completion in self._leaving.pop(channel, ()):
                completion.resolve()
