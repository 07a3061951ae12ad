"""Keeps one connection listening: dials, listens, and after a loss waits and dials again.

The states and their transitions are in `pglisten._listener.states`. Three greenlets carry them out, and each
has an owner that stops it. The supervisor's greenlet, stopped by `close`, dials, waits and reports. The
greenlet of the live connection and the dispatcher's, which runs the callbacks, are stopped by the supervisor.
The supervisor never waits for a callback, so a callback may wait for the supervisor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import gevent
from gevent.event import Event

from .._completion import timed_out
from .._connection.channels import ChannelTable, Completable
from .._connection.connect import ConnectAttempt, as_failed_attempt
from .._connection.live import LiveConnection
from .._connection.loop import RECOVERY
from .._greenlet import Greenlet, let_others_run, spawn
from .._may_wait import check_may_wait
from .._ownership import Owner, Replaced
from .._queues import ListenerQueue
from ..backend import Session
from ..errors import ConnectionFailed, ConnectionLost, ListenerClosed, NotConnected, copy_for_raise
from .backoff import Backoff
from .events import Dispatcher, ListenerEvent
from .settings import Settings, Timing
from .states import TRANSITIONS, State, Trigger

logger = logging.getLogger("pglisten.listener")


class Supervisor:
    """Run one listener in one process.

    *wanted* are the channels wanted from the start, with their completions. With *resumes*, a gap marker
    precedes the first connection too, because it continues another process's stream.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        wanted: Iterable[tuple[str, Completable]] = (),
        resumes: bool = False,
        timing: Timing | None = None,
    ) -> None:
        self.owner = Owner()
        self.state = State.DIALLING
        self.queue = ListenerQueue(settings.queue_size, drop_oldest=settings.drop_oldest)
        self.channels = ChannelTable(wanted)
        self.reconnects = 0
        self.failed_attempts = 0
        self.last_error: Exception | None = None  # Of the last failed attempt or loss.
        self.connected_since: float | None = None  # Of the newest connection, in seconds since the epoch.
        self.since: float | None = None  # When it was started, connected or disconnected: see `_to`.
        self._settings = settings
        self._resumes = resumes
        self._timing = timing or Timing()
        low, high = settings.min_reconnect_interval, settings.max_reconnect_interval
        self._backoff = Backoff(low, high, settings.jitter, self._timing.random)
        self._connection: LiveConnection | None = None
        self._change = Event()
        """Set and replaced when greenlets that wait for a change must look at the state again."""
        self._events = Dispatcher(settings.event_callback, "pglisten-events")
        self._closer: Greenlet | None = None
        self._greenlet: Greenlet | None = None
        self.attempted = Event()  # Set after a first attempt has succeeded or failed, or when none will.

    def start(self) -> None:
        """Begin to connect, unless that has begun."""
        if self._greenlet is None and self.state is not State.CLOSED:
            self.since = time.monotonic()
            self._greenlet = spawn("pglisten-supervisor", self._run)
            self._greenlet.rawlink(self._ended)

    @property
    def connection(self) -> LiveConnection | None:
        """The connection if it is alive and all channels were acknowledged on it; else ``None``."""
        connection = self._connection
        lives = self.state is State.CONNECTED and connection is not None and connection.cause is None
        return connection if lives and not self.owner.forked else None

    def require_connection(self) -> LiveConnection:
        """Return the connection, or raise `NotConnected` with the last failure as its cause."""
        if self.connection is None:
            check_may_wait()
            let_others_run()  # A caller that retries in a loop must let the connection be made.
        if connection := self.connection:
            return connection
        if self.state is State.CLOSED:
            raise ListenerClosed("the listener was closed")
        raise NotConnected(
            f"there is no connection now ({self.state.value}): wait_connected() waits for one"
        ) from self.outage()

    def outage(self) -> Exception | None:
        """Return the last error of the outage that is still on; ``None`` if there is none.

        An outage begins with a loss, or with the first attempt. Each failed attempt has an error of its own.
        """
        if self.owner.forked:
            return None  # That error is the parent process's.
        if self.state is State.CONNECTED:
            return None if self._connection is None else self._connection.cause
        return self.last_error

    def channels_changed(self) -> None:
        """Send what the channel table plans, now or over the next connection."""
        if self._connection is not None:
            self._connection.channels_changed()

    def wait_connected(self, timeout: float | None, stated: float | None = None) -> None:
        """Wait until connected, and until each channel wanted now was acknowledged.

        *stated* is the caller's own timeout, of which *timeout* is left.
        """
        check_may_wait()
        deadline = None if timeout is None else time.monotonic() + timeout
        waiting = self.channels.waiting
        while True:
            while waiting and waiting[-1].done:  # Look at each once, whatever the order they end in.
                waiting.pop()
            if self.queue.end is not None:
                raise copy_for_raise(self.queue.end)
            if self.connection is not None and not waiting:
                return
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self.connection is None:
                change = self._change
                arrived = change.wait(remaining) or change.is_set()
            else:
                arrived = waiting[-1].finished_within(remaining)
            if not arrived:
                connected = self.connection is not None
                what = "channels not acknowledged" if connected else f"not connected ({self.state.value})"
                raise timed_out(what, timeout if stated is None else stated, self.outage())

    def close(self, grace_period: float | None) -> None:
        """End everything and wait for the end. A running callback has *grace_period* seconds to return."""
        closer = self._closer
        if closer is None:  # Compare with None: a finished Greenlet is falsy.
            closer = self._begin_to_close(ListenerClosed("the listener was closed"), grace_period)
        if not self._events.is_current:
            closer.join()

    def replace(self) -> Supervisor:
        """Return this forked child's own supervisor. The parent's session is not touched."""
        # A child made by os.fork() in an unpatched process still has the parent's event loop.
        gevent.reinit()
        successor = Supervisor(self._settings, wanted=self.channels.wanted(), resumes=True)
        successor.start()
        if self._greenlet is not None:
            self._greenlet.kill(block=False)
        self._events.stop()
        if self._connection is not None:
            self._connection.close(Replaced("this process was forked"), wait=False)
        # Copies of the parent's waiting greenlets raise `Replaced`, and wait at the successor.
        self.queue.finish(Replaced("this process was forked"))
        self._announce()
        return successor

    def _run(self) -> None:
        while True:
            failure = self._attempt()
            if failure is not None:
                self._sleep(self._failed(failure))
                continue
            assert self._connection is not None
            self._connection.wait_ended()
            self._check_running()
            self._sleep(self._lost())

    def _ended(self, _: object) -> None:
        """Close if the greenlet was killed from outside (`gevent.killall`): no caller may wait forever."""
        if self.state is not State.CLOSED and not self.owner.forked:
            self._begin_to_close(ListenerClosed("the listener's greenlet was killed"), grace_period=0)

    def _attempt(self) -> Exception | None:
        """Dial and listen, one host after the other. Return the failure, or ``None`` when connected."""
        self._connection = None
        settings, look = self._settings, self.connected_since is None
        try:
            conninfo, limit = settings.target.current()
        except ConnectionFailed as error:
            return error
        finally:
            self._check_running()
        attempt = ConnectAttempt(settings.target.backend, conninfo, limit, look_for_pooler=look)
        while True:
            session, failure = attempt.outcome()
            self._check_running(session)
            if session is None:
                return failure
            self._to(Trigger.DIALLED)
            connection = self._connection = LiveConnection(
                session,
                queue=self.queue,
                channels=self.channels,
                heartbeat=settings.heartbeat,
                reconnects=True,
                on_caught_up=self._caught_up,
                on_ended=lambda _: self._announce(),
            )
            while self.state is State.LISTENING and connection.cause is None:
                self._change.wait()
                self._check_running()
            if self.state is State.CONNECTED:
                return None
            if not isinstance(connection.cause, ConnectionLost) or connection.cause.sqlstate != RECOVERY:
                return connection.cause
            attempt.pass_over(connection.cause)
            self._to(Trigger.PASSED_OVER)

    def _caught_up(self) -> None:
        """Count the connection as made: the server has acknowledged every channel."""
        connection = self._connection
        if self.state is not State.LISTENING or connection is None:
            return  # Closed meanwhile.
        returned = self.connected_since is not None
        self._to(Trigger.CAUGHT_UP)
        self._announce()
        self.connected_since = time.time()
        self._backoff.connected(self._timing.now())
        event = ListenerEvent.RECONNECTED if returned else ListenerEvent.CONNECTED
        self.reconnects += returned
        logger.info("%s to server process %d", event.value, connection.pid)

        def open_stream() -> None:
            if returned or self._resumes:
                self.queue.mark_gap()
            connection.open()

        self._events.post(event, None, open_stream)

    def _failed(self, error: Exception) -> float:
        self._to(Trigger.FAILED)
        error = as_failed_attempt(error)
        self.failed_attempts += 1
        # Drop the frames: they hold the connection string, and the error is kept.
        self.last_error = error.with_traceback(None)
        delay = self._backoff.after_failure()
        logger.warning("connection attempt failed, next in %.3g s: %s", delay, error)
        self._events.post(ListenerEvent.CONNECTION_ATTEMPT_FAILED, error)
        return delay

    def _lost(self) -> float:
        assert self._connection is not None
        self.last_error = cause = self._connection.cause
        self._to(Trigger.LOST)
        delay = self._backoff.after_loss(self._timing.now())
        logger.info("disconnected, next attempt in %.3g s: %s", delay, cause)
        self._events.post(ListenerEvent.DISCONNECTED, cause)
        return delay

    def _sleep(self, delay: float) -> None:
        self._timing.sleep(delay)
        self._check_running()
        self._to(Trigger.RESTED)

    def _check_running(self, session: Session | None = None) -> None:
        """Raise `GreenletExit` in a forked child and after `close`. Called after each wait."""
        if not self.owner.forked and self.state is not State.CLOSED:
            return
        if session is not None:
            (session.abandon if self.owner.forked else session.close)()
        raise gevent.GreenletExit

    def _begin_to_close(self, closed: ListenerClosed, grace_period: float | None) -> Greenlet:
        last = (ListenerEvent.DISCONNECTED, closed) if self.state is State.CONNECTED else None
        self._to(Trigger.CLOSE)
        self.queue.finish(closed)
        self.channels.fail(closed)
        self._announce()
        # Use a greenlet of its own: closing must go on even if the caller is killed now.
        self._closer = spawn("pglisten-closer", self._shut_down, last, grace_period)
        return self._closer

    def _shut_down(self, last: tuple[ListenerEvent, Exception] | None, grace_period: float | None) -> None:
        if self._greenlet is not None:
            self._greenlet.kill()
        if self._connection is not None:
            self._connection.close(ListenerClosed("the listener was closed"))
        self._events.finish(last, grace_period)

    def _to(self, trigger: Trigger) -> None:
        self.state = TRANSITIONS[self.state, trigger]
        if trigger in (Trigger.CAUGHT_UP, Trigger.LOST):
            self.since = time.monotonic()
        if trigger in (Trigger.CAUGHT_UP, Trigger.FAILED, Trigger.CLOSE):
            self.attempted.set()

    def _announce(self) -> None:
        """Wake the greenlets that wait for a change. Never switches greenlets."""
        change, self._change = self._change, Event()
        change.set()
