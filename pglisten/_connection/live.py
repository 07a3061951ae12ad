"""One connection: its greenlet, the calls on it, the cause of its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .._completion import timed_out
from .._greenlet import let_others_run, spawn
from .._may_wait import check_may_wait
from .._ownership import abandon_after_fork
from .._queues import ListenerQueue
from .._sql import PING
from ..backend import Session
from ..errors import ConnectionLost, Error, ServerError, copy_for_raise, told
from .channels import ChannelTable
from .commands import Command, CommandQueue
from .gate import DeliveryGate
from .heartbeat import Heartbeat
from .loop import ConnectionLoop, Forked

logger = logging.getLogger("pglisten.connection")

DUPLICATE_STATEMENT = "42P05"
"""``prepared statement … already exists`` (duplicate_prepared_statement)."""

NO_STATEMENT = "26000"
"""``prepared statement … does not exist`` (invalid_sql_statement_name): a pooler has changed the session."""


class LiveConnection:
    """Run a session in a greenlet of its own, and carry out calls on it.

    *reconnects* and *on_caught_up* are `ConnectionLoop`'s. *on_ended* is called once with the cause,
    after the last delivery. It must not switch greenlets.
    """

    def __init__(
        self,
        session: Session,
        *,
        queue: ListenerQueue,
        channels: ChannelTable,
        heartbeat: Heartbeat | None = None,
        reconnects: bool = False,
        on_caught_up: Callable[[], None] = lambda: None,
        on_ended: Callable[[Error], None] = lambda _: None,
    ) -> None:
        self.pid = session.pid
        self.channels = channels
        self.cause: Error | None = None
        """The first reason why the connection ended; ``None`` while it lives."""
        self._gate = DeliveryGate(queue)
        self._commands = CommandQueue()
        self._prepared: set[str] = set()
        """The names of the statements that were prepared."""
        self._on_ended = on_ended
        self._torn_down = False
        self._loop = ConnectionLoop(
            session,
            self._gate,
            channels,
            self._commands,
            heartbeat=heartbeat,
            reconnects=reconnects,
            on_caught_up=on_caught_up,
        )
        abandon_after_fork(session)
        self._greenlet = spawn(f"pglisten-link-{self.pid}", self._run)
        # A greenlet killed before its first switch never runs, and tears nothing down.
        self._greenlet.rawlink(lambda _: self._tear_down())

    @property
    def last_ping(self) -> float | None:
        """Seconds of the round trip of the last ping or heartbeat; ``None`` before the first."""
        return self._loop.last_ping

    def outage(self) -> Exception | None:
        """Return the cause of its end; ``None`` while it lives."""
        return self.cause

    def channels_changed(self) -> None:
        """Have the loop send what the channel table plans. Never switches greenlets."""
        self._loop.wake()

    def open(self) -> None:
        """Let notifications through to the queue."""
        self._gate.open()
        self._loop.wake()

    def execute(self, sql: str, timeout: float | None, what: str) -> None:
        """Run *sql*, the caller's own, after the commands queued before it. It has no time limit.

        Raises `ServerError`, the cause of the connection's end, or `OperationTimeout` naming *what*. After
        `OperationTimeout`, a query that has begun runs to its end.
        """
        self._submit(sql, open_ended=True).wait(timeout, what)

    def fetch(
        self, sql: str, limit: float, timeout: float | None, *, stated: float | None = None
    ) -> list[tuple[str | None, ...]]:
        """Run *sql* as ``execute`` does, and return its rows.

        The connection counts as lost if the reply takes more than *limit* seconds: *sql* ends before, because
        it sets ``statement_timeout``. *stated* is the caller's own timeout, of which *timeout* is left.
        """
        command = self._submit(sql, open_ended=True, limit=limit, wants_rows=True)
        return self._rows(command, timeout, stated)

    def _rows(
        self, command: Command, timeout: float | None, stated: float | None = None
    ) -> list[tuple[str | None, ...]]:
        command.wait(timeout, "query", stated=stated)
        assert command.rows is not None
        return command.rows

    def fetch_prepared(self, name: str, prepare: str, sql: str, limit: float) -> list[tuple[str | None, ...]]:
        """Run *sql* as ``fetch`` does. It executes the statement *name*, which *prepare* prepares.

        It does not check whether the caller may wait: only a greenlet of this package calls it.
        """
        for last in (False, True):
            if name not in self._prepared:
                self._prepare(name, prepare, limit)
            try:
                return self._rows(self._put(sql, open_ended=True, limit=limit, wants_rows=True), None)
            except ServerError as error:
                if last or error.sqlstate != NO_STATEMENT:
                    raise
                self._prepared.discard(name)
        raise AssertionError

    def _prepare(self, name: str, prepare: str, limit: float) -> None:
        try:
            self.fetch(prepare, limit, None)
        except ServerError as error:
            # Another greenlet has prepared it meanwhile.
            if error.sqlstate != DUPLICATE_STATEMENT:
                raise
        self._prepared.add(name)

    def notify(self, sql: str, channel: str, timeout: float | None, *, stated: float | None = None) -> None:
        """Run *sql*, a NOTIFY on *channel*, in its turn. Raises what ``execute`` raises.

        Raises `InvalidChannelName` if the database would alter the channel's name. *stated* is the caller's
        own timeout, of which *timeout* is left.
        """
        self._submit(sql, channel=channel).wait(timeout, f"NOTIFY {channel!r}", stated=stated)

    def ping(self, timeout: float | None, *, stated: float | None = None) -> float:
        """Return the seconds of a round trip. If no reply arrives in time, the connection counts as lost.

        While the caller's own query runs, silence proves nothing, and the connection is kept.
        """
        started = time.monotonic()
        stated = timeout if stated is None else stated
        # With a timeout of 0, a missing reply proves nothing.
        command = self._submit(PING, limit=stated or None)
        if not command.finished_within(timeout):
            if timeout:
                self._doubt(command, started)
            raise timed_out("ping: not done", stated)
        error = command.completion.error
        late = timeout is not None and time.monotonic() - started >= timeout
        if late and isinstance(error, ConnectionLost):
            raise timed_out("ping: no answer", stated) from error
        # A refusal is a reply too: the server is there.
        if error is not None and not isinstance(error, ServerError):
            raise error
        return self._loop.pinged(started)

    def _doubt(self, ping: Command, since: float) -> None:
        """Count the connection as lost if *ping* waited only for a reply from the server.

        A ping that has begun has a limit of its own, at which the session reads once more, because the hub
        may have been blocked. One turn of the event loop lets that happen for a command before the ping too.
        """
        if ping.begun:
            return
        let_others_run()
        if self._loop.is_unanswered(since):
            self.close(ConnectionLost("no answer to a command, nor to the ping behind it"), wait=False)

    def _submit(
        self,
        sql: str,
        *,
        channel: str | None = None,
        open_ended: bool = False,
        limit: float | None = None,
        wants_rows: bool = False,
    ) -> Command:
        check_may_wait()
        return self._put(sql, channel=channel, open_ended=open_ended, limit=limit, wants_rows=wants_rows)

    def _put(
        self,
        sql: str,
        *,
        channel: str | None = None,
        open_ended: bool = False,
        limit: float | None = None,
        wants_rows: bool = False,
    ) -> Command:
        if self.cause is not None:
            raise copy_for_raise(self.cause)
        command = self._commands.put(
            sql, channel=channel, open_ended=open_ended, limit=limit, wants_rows=wants_rows
        )
        self._loop.wake()
        return command

    def wait_ended(self) -> None:
        """Wait until the connection has ended and ``cause`` is set."""
        self._greenlet.join()

    def close(self, cause: Error, *, wait: bool = True) -> None:
        """End the connection at once, for *cause* unless there is one. *wait* for the end of its greenlet."""
        self._set_cause(cause)
        self._greenlet.kill(block=wait)

    def _run(self) -> None:
        try:
            self._loop.run()
        except Forked:
            self._set_cause(ConnectionLost("this process was forked: the connection is its parent's"))
        except ConnectionLost as error:
            self._set_cause(error)
            self._loop.collect_the_rest()
        except Exception as error:  # noqa: BLE001 - the end of the greenlet, and callers are told
            logger.error("the connection to server process %d ended by a bug\n%s", self.pid, told(error))
            lost = ConnectionLost(f"ended by a bug: {error!r}")
            lost.__cause__ = error
            self._set_cause(lost)
        finally:
            self._tear_down()

    def _set_cause(self, cause: Error) -> None:
        if self.cause is None:
            # Drop the frames: they would keep the session alive as long as the cause is kept.
            self.cause = cause.with_traceback(None)

    def _tear_down(self) -> None:
        if self._torn_down:
            return
        self._torn_down = True
        # No cause so far: the greenlet was killed from outside (`gevent.killall`).
        self._set_cause(ConnectionLost("its greenlet was killed"))
        assert self.cause is not None
        self._loop.close()
        self._commands.fail(self.cause)
        # Call this before `disconnected`: callers that wait for a channel must get the cause.
        self._on_ended(self.cause)
        self.channels.disconnected()
