"""One connection at work: a greenlet that owns a session, and is the only one to touch it.

It reads while nobody wants anything, runs commands one at a time in the order they came, keeps the
server's channels in line with the channel table, and pings when nothing was heard for a while. As one
greenlet does all of it there is no lock to hold over a wait, and no caller whose death could leave a reply
half read: callers only wait for an outcome.

It never waits for a consumer. While the mailbox is full or the stream is not open yet it does not read;
what a command's reply brings along stays with the driver until there is room.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import gevent
from gevent.event import Event

from ._channels import ChannelTable, Plan
from ._commands import Command, CommandQueue
from ._greenlet import spawn
from ._mailbox import Gate, Mailbox
from ._process import Home, abandon_after_fork
from ._sql import PING
from .backend import Session
from .errors import ConnectionLost, Error, OperationTimeout, ServerError, again

logger = logging.getLogger("pglisten.connection")

RECOVERY = "25006"
"""``cannot execute LISTEN during recovery`` (read_only_sql_transaction): this server is a standby."""

_READ = 1  # gevent's and libev's EV_READ


class Heartbeat(NamedTuple):
    """After *interval* seconds without a sign of life ping; no answer for *timeout* seconds is a loss."""

    interval: float
    timeout: float


class _Forked(BaseException):
    """Raised in a forked child's copy of the greenlet."""


class Link:
    """A session, its greenlet, and everybody who wants something of it.

    With *returns* another connection would follow: a refusal that is the server's own trouble, not the
    channel's, ends this one. *on_settled* is called, in the link's greenlet, whenever the server has
    exactly the channels that are wanted: first when all of them are listened to on this connection, and
    after every change. *on_ended* is called once with the cause, when nothing more will be delivered.
    Neither may switch greenlets.
    """

    def __init__(
        self,
        session: Session,
        *,
        mailbox: Mailbox,
        channels: ChannelTable,
        heartbeat: Heartbeat | None = None,
        returns: bool = False,
        on_settled: Callable[[], None] = lambda: None,
        on_ended: Callable[[Error], None] = lambda _: None,
    ) -> None:
        self.pid = session.pid
        self.cause: Error | None = None
        """Why it ended: the first cause. ``None`` while it lives."""
        self.settled = Event()
        """Set once all channels are listened to, or the link has ended."""
        self.last_ping: float | None = None
        self._session = session
        self._mailbox = mailbox
        self._gate = Gate(mailbox)
        self.channels = channels
        self._heartbeat = heartbeat
        self._patience = None if heartbeat is None else heartbeat.interval + heartbeat.timeout
        self._returns = returns
        self._on_settled = on_settled
        self._on_ended = on_ended
        self._home = Home()
        self._drained = False
        self._in_agreement = False
        self._commands = CommandQueue()
        self._torn_down = False
        self._heard = time.monotonic()
        self._wake = Event()
        loop = gevent.get_hub().loop
        self._watcher, self._timer = loop.io(session.fileno(), _READ), loop.timer(0.0)
        abandon_after_fork(session)
        mailbox.on_room = self.wake
        self._greenlet = spawn(f"pglisten-link-{self.pid}", self._run)

    # For everybody else

    def wake(self) -> None:
        """Make the greenlet look around: there is a command, or room. Never switches."""
        self._wake.set()

    def channels_changed(self) -> None:
        """Make the greenlet bring the server in line with the channel table. Never switches."""
        self._in_agreement = False
        self._wake.set()

    def open(self) -> None:
        """Let notifications through to the mailbox."""
        self._gate.open()
        self.wake()

    def execute(self, sql: str, timeout: float | None, what: str, *, open_ended: bool = False) -> None:
        """Run *sql* after what others queued before.

        Raises `ServerError`, the cause of death, or `OperationTimeout` naming *what*; a query that has
        begun by then ends without its caller.
        """
        self._submit(sql, open_ended=open_ended).wait(timeout, what)

    def ping(self, timeout: float | None) -> float:
        """Return the seconds of a round trip. If no answer comes in time the connection counts as lost.

        Behind a running query of the user's own, silence proves nothing, and the connection is left alone.
        """
        started = time.monotonic()
        command = self._submit(PING)
        try:
            command.wait(timeout, "ping")
        except OperationTimeout:
            if not self._commands.open_ended:
                self.stop(ConnectionLost(f"no answer to a ping within {timeout:g} s"), wait=False)
            raise
        except ServerError:
            pass  # An answer all the same: the server is there.
        self.last_ping = time.monotonic() - started
        return self.last_ping

    def _submit(self, sql: str, *, open_ended: bool = False) -> Command:
        if self.cause is not None:
            raise again(self.cause)
        command = self._commands.put(sql, open_ended=open_ended)
        self.wake()
        return command

    def join(self) -> None:
        """Wait until it has ended and ``cause`` is set."""
        self._greenlet.join()

    def stop(self, cause: Error, *, wait: bool = True) -> None:
        """End it for *cause*, unless it ended for another, whatever it is doing."""
        self._set_cause(cause)
        self._greenlet.kill(block=wait)
        if self._greenlet.dead:
            self._tear_down()  # A greenlet killed before its first switch has not run its own.

    # The greenlet

    def _run(self) -> None:
        try:
            while True:
                if plan := self.channels.plan():
                    self._synchronise(plan)
                elif not self._in_agreement:
                    self._agree()
                elif self._commands:
                    self._run_command(self._commands.next())
                elif self._gate.has_room() and not self._drained:
                    self._read()
                    if not self._drained:
                        self._let_others_run()
                else:
                    self._pause()
        except _Forked:
            self._set_cause(ConnectionLost("this process was forked: the connection is its parent's"))
        except ConnectionLost as error:
            self._set_cause(error)
            self._collect_the_rest()
        except Exception as error:
            logger.exception("the connection to server process %d ended by a bug", self.pid)
            lost = ConnectionLost(f"ended by a bug: {error!r}")
            lost.__cause__ = error
            self._set_cause(lost)
        finally:
            # Without a cause by now: killed by somebody who ends all greenlets there are.
            self._set_cause(ConnectionLost("its greenlet was killed"))
            self._tear_down()

    def _synchronise(self, plan: Plan) -> None:
        self._in_agreement = False
        try:
            self._query(plan.sql, self._patience)
        except ServerError as error:
            if self._returns and (error.sqlstate == RECOVERY or not self.channels.to_blame(plan, error)):
                raise ConnectionLost(str(error), sqlstate=error.sqlstate) from error
            for channel in self.channels.refused(plan, error):
                logger.error("channel %r is refused, and out of the set now: %s", channel, error)
        else:
            self.channels.applied(plan)

    def _agree(self) -> None:
        self._in_agreement = True
        self.channels.settled()
        self._on_settled()
        self.settled.set()

    def _run_command(self, command: Command) -> None:
        error: ServerError | None = None
        try:
            self._query(command.sql, None if command.open_ended else self._patience)
        except ServerError as refusal:
            error = refusal
        try:
            # What came along is delivered before the caller goes on.
            if self._gate.has_room():
                self._read()
        finally:
            self._commands.finish(error)

    def _query(self, sql: str, patience: float | None) -> None:
        self._stay_home()
        self._drained = False
        try:
            self._session.execute(sql, patience)
        finally:
            self._stay_home()
            self._heard = time.monotonic()

    def _read(self) -> None:
        batch = self._session.receive()
        self._drained = not batch
        if batch:
            self._heard = time.monotonic()
            self._gate.deliver(batch, self.channels.orphans)

    def _let_others_run(self) -> None:
        """Go through the event loop once: a burst must neither outrun its consumers nor hold up the hub.

        A timer, since gevent.sleep(0) comes back before timers and descriptors have had their turn.
        """
        gevent.get_hub().wait(self._timer)
        self._stay_home()

    def _pause(self) -> None:
        """Wait for something to do: a command, room, data if they may be read, or the next heartbeat."""
        due = None
        if self._heartbeat is not None:
            due = self._heard + self._heartbeat.interval - time.monotonic()
            if due <= 0:
                self._beat(self._heartbeat.timeout)
                return
        if self._gate.has_room():
            self._watcher.start(self._wake.set)
        try:
            self._wake.wait(due)
        finally:
            self._watcher.stop()
        self._wake.clear()
        self._drained = False
        self._stay_home()

    def _beat(self, timeout: float) -> None:
        started = time.monotonic()
        try:
            self._query(PING, timeout)
        except ServerError:
            pass
        except ConnectionLost as error:
            raise ConnectionLost(f"heartbeat failed: {error}", sqlstate=error.sqlstate) from error
        self.last_ping = time.monotonic() - started

    def _stay_home(self) -> None:
        """Go no further in a forked child. Between every wait and every use of the session."""
        if self._home.forked:
            raise _Forked

    # The end

    def _set_cause(self, cause: Error) -> None:
        if self.cause is None:
            self.cause = cause

    def _collect_the_rest(self) -> None:
        """Take what had arrived before the connection was lost: it comes before the gap."""
        try:
            while batch := self._session.receive():
                self._gate.deliver(batch, self.channels.orphans)
        except ConnectionLost:
            pass

    def _tear_down(self) -> None:
        if self._torn_down:
            return
        self._torn_down = True
        # The watcher goes before the descriptor, whose number may be somebody else's at once.
        self._watcher.close()
        self._timer.close()
        if self._home.forked:
            self._session.abandon()
        self._session.close()
        self._mailbox.on_room = lambda: None
        assert self.cause is not None
        self._commands.fail(self.cause)
        self.channels.disconnected()
        self.settled.set()
        self._on_ended(self.cause)
