"""One living connection: the loop that reads, runs commands, keeps the channels in line and pings.

One greenlet does all of it, and is the only one to touch the session. So there is no lock to hold over a
wait, and no caller whose death could leave a reply half read: callers only wait for an outcome.

It never waits for a consumer. While the queue is full it does not read; what a command's reply brings
along stays with the driver until there is room.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import gevent
from gevent.hub import Waiter
from greenlet import getcurrent

from .._ownership import Owner
from .._sql import PING
from ..backend import Session
from ..errors import ConnectionLost, Error, ServerError
from .channels import ChannelTable, Plan
from .commands import Command, CommandQueue
from .gate import DeliveryGate
from .heartbeat import Heartbeat, Liveness
from .queue_repair import listen_with_repair
from .server_names import ServerNames

logger = logging.getLogger("pglisten.connection")

RECOVERY = "25006"
"""``cannot execute LISTEN during recovery`` (read_only_sql_transaction): this server is a standby."""

T = TypeVar("T")

_READ = 1  # gevent's and libev's EV_READ


class Forked(BaseException):
    """Raised in a forked child's copy of the greenlet, after every wait and before any use of the session."""


class ConnectionLoop:
    """Runs a session until it ends.

    With *reconnects* another connection would follow: a refusal that is the server's own trouble, not the
    channel's, ends this one. *on_caught_up* is called once, when the server has exactly the channels that are
    wanted for the first time. It must not switch greenlets.
    """

    def __init__(
        self,
        session: Session,
        gate: DeliveryGate,
        channels: ChannelTable,
        commands: CommandQueue,
        *,
        heartbeat: Heartbeat | None,
        reconnects: bool,
        on_caught_up: Callable[[], None],
    ) -> None:
        self._liveness = Liveness(heartbeat, time.monotonic())
        self._asking = False
        """Whether a query of this library's own waits for its answer."""
        self.last_ping: float | None = None
        self._session = session
        self._gate = gate
        self._channels = channels
        self._commands = commands
        self._query_timeout = self._liveness.query_timeout
        self._reconnects = reconnects
        self._on_caught_up = on_caught_up
        self._names = ServerNames(lambda sql: self._ask(session.fetch, sql, self._query_timeout))
        self._owner = Owner()
        self._drained = False
        self._hub = gevent.get_hub()
        loop = self._hub.loop
        self._readable, self._soon = loop.io(session.fileno(), _READ), loop.timer(0.0)
        self._alarm = loop.timer(0.0)
        """For the next heartbeat. Not set anew with every pause: it may ring too early, once."""
        self._alarm_is_set = False
        self._called = False
        """Whether `wake` was called since the last pause."""
        self._waiter: Waiter[bool] | None = None
        """What it waits for in a pause."""

    def wake(self) -> None:
        """Make it look around: there is a command, or room. Never switches."""
        self._called = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._hub.loop.run_callback(waiter.switch, False)

    def channels_changed(self) -> None:
        """Make it bring the server in line with the channel table. Never switches."""
        self.wake()

    def pinged(self, started: float) -> float:
        """Note the end of a round trip that began at *started*; return its seconds."""
        self.last_ping = time.monotonic() - started
        return self.last_ping

    def is_unanswered(self, since: float) -> bool:
        """Whether the server owes a reply, and has sent nothing after *since* on the monotonic clock.

        The user's own SQL may run for as long as it likes: its reply is not owed.
        """
        return self._asking and not self._commands.open_ended and self._liveness.last_received < since

    def run(self) -> NoReturn:
        """Do what there is to do, until `ConnectionLost` or `Forked` is raised."""
        while True:
            if plan := self._channels.plan():
                self._synchronise(plan)
                # However often the channels change: everybody gets a turn.
                if self._commands:
                    self._run_command(self._commands.next())
                elif self._gate.request_room(self.wake):
                    self._read()
                    self._gate.wake()
            elif not self._channels.caught_up:
                self._channels.catch_up()
                self._on_caught_up()
            elif self._commands:
                self._run_command(self._commands.next())
            # Before more is read: in a burst there is always more.
            elif (beat_in := self._liveness.ping_due_in(time.monotonic())) is not None and beat_in <= 0:
                self._beat()
            elif (self._gate.request_room(self.wake) and not self._drained) or self._pause(beat_in):
                self._read_and_give_way()

    def _synchronise(self, plan: Plan) -> None:
        try:
            # Before LISTEN: under an altered name, notifications would come that no caller asked for.
            for channel, refusal in (altered := self._names.altered(plan.listen)).items():
                self._refuse(Plan((channel,), ()), refusal)
            plan = plan.without(altered)
            if plan.listen or plan.unlisten:
                listen_with_repair(
                    lambda sql: self._query(sql, self._query_timeout), plan.sql, on_repair=_log_repair
                )
        except ServerError as error:
            if self._reconnects and (error.sqlstate == RECOVERY or not self._channels.to_blame(plan, error)):
                raise ConnectionLost(str(error), sqlstate=error.sqlstate) from error
            self._refuse(plan, error)
        else:
            self._channels.applied(plan)

    def _refuse(self, plan: Plan, error: Error) -> None:
        for channel in self._channels.refused(plan, error):
            logger.error("channel %r is refused, and out of the set now: %s", channel, error)

    def _run_command(self, command: Command) -> None:
        error: Error | None = None
        try:
            if command.channel is not None:
                error = self._names.altered((command.channel,)).get(command.channel)
            if error is None:
                self._query(command.sql, command.timeout(self._query_timeout))
        except ServerError as refusal:
            error = refusal
        try:
            # What came along is delivered before the caller goes on.
            if self._gate.request_room(self.wake):
                self._read()
                self._gate.wake()
        finally:
            self._commands.finish(error)

    def _query(self, sql: str, timeout: float | None) -> None:
        self._ask(self._session.execute, sql, timeout)

    def _ask(self, run: Callable[[str, float | None], T], sql: str, timeout: float | None) -> T:
        self._check_process()
        self._drained = False
        self._asking = True
        try:
            return run(sql, timeout)
        finally:
            self._asking = False
            self._check_process()
            self._liveness.replied(time.monotonic())

    def _read_and_give_way(self) -> None:
        self._read()
        if not self._drained:
            self._let_others_run()

    def _read(self) -> None:
        batch = self._session.receive()
        self._drained = not batch
        if batch:
            self._liveness.last_received = time.monotonic()
            self._gate.put(batch, self._channels.abandoned)
        else:
            self._channels.drained()

    def _let_others_run(self) -> None:
        """Go through the event loop once: a burst must neither outrun its consumers nor hold up the hub.

        A timer, since gevent.sleep(0) comes back before timers and descriptors have had their turn. Whoever
        waits for what was read goes first, without a callback in between.
        """
        self._soon.start(getcurrent().switch)
        try:
            (self._gate.next_taker() or self._hub).switch()
        finally:
            self._soon.stop()
        self._check_process()

    def _pause(self, beat_in: float | None) -> bool:
        """Wait for something to do: a command, room, data if they may be read, or the next heartbeat.

        Returns whether there is something to read and nothing else.
        """
        if beat_in is not None and not self._alarm_is_set:
            self._alarm_is_set = True
            self._alarm.close()
            self._alarm = self._hub.loop.timer(beat_in)
            self._alarm.start(self._ring, update=True)
        waiter = self._waiter = Waiter(self._hub)
        if self._gate.request_room(self.wake):
            # Straight from the event loop, without a callback in between: this is what latency is made of.
            self._readable.start(waiter.switch, True)
        try:
            readable = not self._called and waiter.get()
        finally:
            self._waiter = None
            self._readable.stop()
        self._called = self._drained = False
        self._check_process()
        return readable

    def _ring(self) -> None:
        self._alarm_is_set = False
        self.wake()

    def _beat(self) -> None:
        started = time.monotonic()
        try:
            self._query(PING, self._liveness.ping_timeout(started))
        except ServerError:
            pass
        except ConnectionLost as error:
            raise ConnectionLost(f"heartbeat failed: {error}", sqlstate=error.sqlstate) from error
        self.pinged(started)

    def _check_process(self) -> None:
        """Go no further in a forked child. Between every wait and every use of the session."""
        if self._owner.forked:
            raise Forked

    def collect_the_rest(self) -> None:
        """Take what had arrived before the connection was lost: it comes before the gap."""
        with contextlib.suppress(ConnectionLost):
            while batch := self._session.receive():
                self._gate.put(batch, self._channels.abandoned)
        self._gate.wake()

    def close(self) -> None:
        """End the session; in a forked child, without a word to the server."""
        # The watcher goes before the descriptor, whose number may be somebody else's at once.
        for watcher in (self._readable, self._soon, self._alarm):
            watcher.close()
        if self._owner.forked:
            self._session.abandon()
        self._session.close()


def _log_repair(refusal: ServerError) -> None:
    logger.warning("the notification queue begins with what nobody can read, trimming it: %s", refusal)
