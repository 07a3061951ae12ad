"""One connection's life: its greenlet, its callers, the cause of its end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from .._greenlet import let_others_run, spawn
from .._mailbox import ListenerQueue
from .._may_wait import check_may_wait
from .._ownership import abandon_after_fork
from .._sql import PING
from ..backend import Session
from ..errors import ConnectionLost, Error, OperationTimeout, ServerError, copy_for_raise, told
from .channels import ChannelTable
from .commands import Command, CommandQueue
from .gate import DeliveryGate
from .heartbeat import Heartbeat
from .loop import ConnectionLoop, Forked

logger = logging.getLogger("pglisten.connection")


class LiveConnection:
    """A session with a greenlet of its own, and everybody who wants something of it.

    *reconnects* and *on_caught_up* are `ConnectionLoop`'s. *on_ended* is called once with the cause, when
    nothing more will be delivered, and must not switch greenlets.
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
        """Why it ended: the first cause. ``None`` while it lives."""
        self._gate = DeliveryGate(queue)
        self._commands = CommandQueue()
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
        # Killed before its first switch, it tears nothing down itself.
        self._greenlet.rawlink(lambda _: self._tear_down())

    @property
    def last_ping(self) -> float | None:
        """Seconds of the last ping's or heartbeat's round trip; ``None`` before the first."""
        return self._loop.last_ping

    def channels_changed(self) -> None:
        """Have the server brought in line with the channel table. Never switches."""
        self._loop.channels_changed()

    def open(self) -> None:
        """Let notifications through to the queue."""
        self._gate.open()
        self._loop.wake()

    def execute(self, sql: str, timeout: float | None, what: str) -> None:
        """Run *sql*, the user's own, after what others queued before; it may take as long as it likes.

        Raises `ServerError`, the cause of death, or `OperationTimeout` naming *what*; a query that has
        begun by then ends without its caller.
        """
        self._submit(sql, open_ended=True).wait(timeout, what)

    def notify(self, sql: str, channel: str, timeout: float | None) -> None:
        """Run *sql*, a NOTIFY on *channel*, in its turn; raises what ``execute`` does.

        Raises `InvalidChannelName` instead if the database would not keep the channel's name as it is.
        """
        self._submit(sql, channel=channel).wait(timeout, f"NOTIFY {channel!r}")

    def ping(self, timeout: float | None) -> float:
        """Return the seconds of a round trip. If no answer comes in time the connection counts as lost.

        Behind a running query of the user's own, silence proves nothing, and the connection is left alone.
        """
        started = time.monotonic()
        # Without any time an answer cannot be missing.
        command = self._submit(PING, limit=timeout or None)
        if not command.finished_within(timeout):
            if timeout:
                self._doubt(command, started)
            raise OperationTimeout(f"ping: not done within {timeout:g} s")
        error = command.completion.error
        late = timeout is not None and time.monotonic() - started >= timeout
        if late and isinstance(error, ConnectionLost):
            raise OperationTimeout(f"ping: no answer within {timeout:g} s") from error
        # A refusal is an answer all the same: the server is there.
        if error is not None and not isinstance(error, ServerError):
            raise error
        return self._loop.pinged(started)

    def _doubt(self, ping: Command, since: float) -> None:
        """Count the link as lost if *ping* waited for nothing but an answer of the server's.

        One that has begun has a limit of its own, at which the session looks once more: the hub may have
        been held up. Let that look happen for a command before it, too.
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
    ) -> Command:
        check_may_wait()
        if self.cause is not None:
            raise copy_for_raise(self.cause)
        command = self._commands.put(sql, channel=channel, open_ended=open_ended, limit=limit)
        self._loop.wake()
        return command

    def wait_ended(self) -> None:
        """Wait until it has ended and ``cause`` is set."""
        self._greenlet.join()

    def close(self, cause: Error, *, wait: bool = True) -> None:
        """End it for *cause*, unless it ended for another, whatever it is doing."""
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
            # Without its frames, which would keep the session alive as long as anybody keeps the cause.
            self.cause = cause.with_traceback(None)

    def _tear_down(self) -> None:
        if self._torn_down:
            return
        self._torn_down = True
        # Without a cause by now: killed by somebody who ends all greenlets there are.
        self._set_cause(ConnectionLost("its greenlet was killed"))
        assert self.cause is not None
        self._loop.close()
        self._commands.fail(self.cause)
        # Before the channels are let go of: who waits for them is to hear why.
        self._on_ended(self.cause)
        self.channels.disconnected()
