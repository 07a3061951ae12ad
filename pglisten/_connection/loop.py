"""The loop of one connection: it reads, runs commands, listens and unlistens, and pings.

One greenlet runs the loop, and no other greenlet touches the session. So no lock is held over a wait. A
caller only waits for a completion: if it is killed, no reply is left half read.

The loop never waits for a consumer. While the queue is full, it does not read from the socket, and what comes
with a command's reply stays in the driver.
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

from .._greenlet import let_others_run
from .._ownership import Owner
from .._sql import LISTENING_QUERY, PING
from ..backend import Session
from ..errors import ConnectionLost, Error, ServerError
from .channels import ChannelTable
from .commands import Command, CommandQueue
from .gate import DeliveryGate
from .heartbeat import Heartbeat, Liveness
from .plan import Plan
from .queue_repair import listen_with_repair, log_repair
from .server_names import ServerNames
from .still_listening import StillListening, problem_of_reply

logger = logging.getLogger("pglisten.connection")

RECOVERY = "25006"
"""``cannot execute LISTEN during recovery`` (read_only_sql_transaction): this server is a standby."""

COLLECT_TIME = 0.2
"""Seconds for `collect_the_rest`. An intact session may receive without end; the gap covers what is left."""

T = TypeVar("T")

_READ = 1  # gevent's and libev's EV_READ


class Forked(BaseException):
    """Ends the copy of the greenlet in a forked child, after each wait and before each use of the session."""


class ConnectionLoop:
    """Run a session until it ends.

    *reconnects*: a lost connection is replaced, so a LISTEN refused for a reason other than the channel ends
    this connection. *on_caught_up* is called once, with all channels in force, and must not switch greenlets.
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
        """Whether a query waits for its reply."""
        self.last_ping: float | None = None
        self._session = session
        self._gate = gate
        self._channels = channels
        self._commands = commands
        self._query_timeout = self._liveness.query_timeout
        self._reconnects = reconnects
        self._on_caught_up = on_caught_up
        self._still_listening = StillListening(session.pid)
        self._confirmed = False  # Whether the new session was asked if it listens.
        self._names = ServerNames(lambda sql: self._ask(session.fetch, sql, self._query_timeout))
        self._owner = Owner()
        self._drained = False
        self._hub = gevent.get_hub()
        loop = self._hub.loop
        self._readable, self._soon = loop.io(session.fileno(), _READ), loop.timer(0.0)
        self._alarm = loop.timer(0.0)
        """For the next heartbeat. It is not restarted for each pause, so it may ring too early, once."""
        self._alarm_is_set = False
        self._called = False
        """Whether `wake` was called since the last pause."""
        self._waiter: Waiter[bool] | None = None
        """What the loop waits for in a pause."""

    def wake(self) -> None:
        """End the loop's pause: there is a command, a changed channel, or room. Never switches greenlets."""
        self._called = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._hub.loop.run_callback(waiter.switch, False)

    def pinged(self, started: float) -> float:
        """Note the end of a round trip that began at *started*; return its seconds."""
        self.last_ping = time.monotonic() - started
        return self.last_ping

    def is_unanswered(self, since: float) -> bool:
        """Whether a query waits for its reply and the server has sent nothing since *since* (monotonic).

        ``False`` while the caller's own SQL runs: it has no time limit.
        """
        return self._asking and not self._commands.open_ended and self._liveness.last_received < since

    def run(self) -> NoReturn:
        """Read, run commands and ping until `ConnectionLost` or `Forked` is raised."""
        while True:
            # All that `wake` was called for is looked at before the next pause.
            self._called = False
            if plan := self._channels.plan():
                self._synchronise(plan)
                # Commands and reads get a turn even if the channels change all the time.
                if self._commands:
                    self._run_command(self._commands.next())
                elif self._gate.request_room(self.wake):
                    self._read()
                    self._gate.wake()
            elif not self._channels.caught_up:
                self._catch_up()
            # Ping before the rest: there may always be another command, and in a burst always more to read.
            elif (beat_in := self._liveness.ping_due_in(time.monotonic())) is not None and beat_in <= 0:
                self._beat()
            elif self._commands:
                self._run_command(self._commands.next())
            elif (self._gate.request_room(self.wake) and not self._drained) or self._pause(beat_in):
                self._read_and_give_way()

    def _catch_up(self) -> None:
        if self._channels.held and not self._confirmed:
            self._confirmed = True
            self._confirm_listening(self._query_timeout)
        else:  # `plan` had nothing to send, and nothing has waited since.
            self._channels.catch_up()
            self._on_caught_up()

    def _synchronise(self, plan: Plan) -> None:
        try:
            # Check before LISTEN: an altered name would bring notifications that no caller asked for.
            for channel, refusal in (altered := self._names.altered(plan.listen)).items():
                self._refuse(Plan((channel,), ()), refusal)
            plan = plan.without(altered)
            if plan.listen or plan.unlisten:
                listen_with_repair(self._run_whole, plan.sql, on_repair=log_repair)
        except ServerError as error:
            if self._reconnects and (error.sqlstate == RECOVERY or not self._channels.to_blame(plan, error)):
                raise ConnectionLost(str(error), sqlstate=error.sqlstate) from error
            self._refuse(plan, error)
        else:
            self._channels.applied(plan)

    def _run_whole(self, sql: str) -> None:
        """Run a query that returns one row. Without the row, the connection is lost."""
        if problem := problem_of_reply(self._ask(self._session.fetch, sql, self._query_timeout)):
            raise problem.lost()

    def _confirm_listening(self, timeout: float | None) -> None:
        """Ask the server whether it listens to what it has acknowledged; a refusal is a reply too."""
        with contextlib.suppress(ServerError):
            if not self._channels.held:
                self._ask(self._session.execute, PING, timeout)
            # Only this greenlet changes `held`: it stays the same meanwhile.
            elif problem := self._still_listening.problem(
                self._ask(self._session.fetch, LISTENING_QUERY, timeout), self._channels.held
            ):
                raise problem.lost()

    def _refuse(self, plan: Plan, error: Error) -> None:
        for channel in self._channels.refused(plan, error):
            logger.error("the server refused channel %r, which is no longer in the set: %s", channel, error)

    def _run_command(self, command: Command) -> None:
        error: Error | None = None
        try:
            if command.channel is not None:
                error = self._names.altered((command.channel,)).get(command.channel)
            if error is None:
                run = self._session.execute if command.rows is None else self._session.fetch
                command.rows = self._ask(run, command.sql, command.timeout(self._query_timeout))
        except ServerError as refusal:
            error = refusal
        try:
            # Deliver what arrived with the reply before the caller continues.
            if self._gate.request_room(self.wake):
                self._read()
                self._gate.wake()
        finally:
            self._commands.finish(error)

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
        """Give the event loop one turn: a burst must neither outrun its consumers nor block the hub.

        This uses a timer, because gevent.sleep(0) returns before timers and descriptors had their turn. A
        consumer that waits for what was read runs first, without a callback in between.
        """
        self._soon.start(getcurrent().switch)
        try:
            (self._gate.next_consumer() or self._hub).switch()
        finally:
            self._soon.stop()
        self._check_process()

    def _pause(self, beat_in: float | None) -> bool:
        """Wait for a command, for room, for data if there is room, or for the next heartbeat.

        Returns whether data has arrived and nothing else has happened.
        """
        if beat_in is not None and not self._alarm_is_set:
            self._alarm_is_set = True
            self._alarm.close()
            self._alarm = self._hub.loop.timer(beat_in)
            self._alarm.start(self._ring, update=True)
        waiter = self._waiter = Waiter(self._hub)
        if self._gate.request_room(self.wake):
            # Switch straight from the event loop: a callback in between would add to the latency.
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
        limit = self._liveness.ping_timeout(started)
        try:
            self._confirm_listening(limit)
        except ConnectionLost as error:
            late = limit is not None and time.monotonic() - started >= limit
            why = self._liveness.unanswered if late else error
            raise ConnectionLost(f"heartbeat failed: {why}", sqlstate=error.sqlstate) from error
        self._liveness.beaten(time.monotonic())
        self.pinged(started)

    def _check_process(self) -> None:
        """Raise `Forked` in a forked child. Called between each wait and each use of the session."""
        if self._owner.forked:
            raise Forked

    def collect_the_rest(self) -> None:
        """Deliver what had arrived before the loss: it belongs before the gap. Ends after `COLLECT_TIME`."""
        end = time.monotonic() + COLLECT_TIME
        with contextlib.suppress(ConnectionLost, Forked):
            while time.monotonic() < end and (batch := self._session.receive()):
                self._gate.put(batch, self._channels.abandoned)
                let_others_run()
                self._check_process()
        self._gate.wake()

    def close(self) -> None:
        """End the session; in a forked child, send nothing to the server."""
        # Close the watchers before the descriptor: its number may be reused at once.
        for watcher in (self._readable, self._soon, self._alarm):
            watcher.close()
        if self._owner.forked:
            self._session.abandon()
        self._session.close()
