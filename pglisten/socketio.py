"""A client manager for python-socketio and Flask-SocketIO: emits reach the clients of all workers.

For instance::

    log = EventLog("socketio", Broadcaster(DATABASE_URL))    # made by: pglisten log create socketio
    socketio = SocketIO(app, client_manager=PgManager(log))

It needs python-socketio: ``pip install 'pglisten[socketio]'``. Clients, rooms and callbacks are those of
python-socketio, as with its Redis manager. Messages travel through an `EventLog`, so they may be of any size,
and a worker whose connection was lost gets what it has missed.
"""

# python-socketio ships no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.event import Event
from socketio.pubsub_manager import PubSubManager

from ._completion import Completion, check_timeout
from ._eventlog.admin import check_older_than
from ._eventlog.follower import Follower
from ._greenlet import spawn
from ._options import on_gap as check_on_gap
from ._ownership import Owner
from ._socketio.envelope import Inbox
from ._socketio.outbox import Outbox
from ._sql import check_channel
from .errors import ConfigurationError, Error, ListenerClosed
from .eventlog import EventLog, broadcaster_of

__all__ = ["PgManager"]

logger = logging.getLogger("pglisten.socketio")

CONNECT_WAIT = 10.0
"""Seconds that a client's connection waits until this process reads the log."""

RETRY = 1.0
"""Seconds before a log that cannot be read, or does not exist, is looked for again."""

TRIM_LIMIT = 60.0
"""Seconds after which ``trim`` stops, until the next time."""


class PgManager(PubSubManager):  # type: ignore[misc]
    """Send what a Socket.IO server emits to the clients of all its processes, through *log*.

    *channel* is the log's channel: the same in all processes, another one for another application. With
    *write_only*, it only sends: for processes without clients, such as Celery tasks and scripts.

    ``emit()`` and the calls for other processes' clients return when the message is committed. While the
    database is away they wait, up to *timeout* seconds (``None``: forever), and raise `OperationTimeout`; or
    `PayloadTooLong` for a message of over 16 MiB, `ServerError`, `ListenerClosed`. Clients of the same
    process have the message then.

    Each process trims entries that are older than *retention* seconds (``None``: none does). *on_gap* is
    called without arguments in a process that was away for longer, and so has missed messages; without it,
    a warning is logged. *logger* and *json* are those of python-socketio. Raises `ConfigurationError` or
    `InvalidChannelName` for a wrong argument.
    """

    name = "pglisten"

    def __init__(
        self,
        log: EventLog,
        channel: str = "socketio",
        write_only: bool = False,
        *,
        retention: float | None = 60.0,
        timeout: float | None = 30.0,
        on_gap: Callable[[], object] | None = None,
        logger: Any = None,
        json: Any = None,
    ) -> None:
        if not isinstance(log, EventLog):
            raise ConfigurationError(f"log is an EventLog, not {log!r}", option="log")
        if check_older_than(retention) == 0:
            raise ConfigurationError("retention is seconds above 0, or None", option="retention")
        check_on_gap(on_gap)
        self._log = log
        self._retention = retention
        self._timeout = check_timeout(timeout)
        self._on_gap = on_gap
        self._process_state: _Process | None = None
        super().__init__(channel=check_channel(channel), write_only=write_only, logger=logger, json=json)

    @property
    def host_id(self) -> str:
        """The id of this process among the senders. A forked child has another one than its parent."""
        return self._process.host_id

    @host_id.setter
    def host_id(self, _: str) -> None:
        """Do nothing: python-socketio sets one id, before the fork of a worker."""

    def initialize(self) -> None:
        """Start to receive, in this process. python-socketio calls it when the first client connects."""
        if self.write_only or self._process.started:
            return
        self._process.started = True
        super().initialize()
        if self._retention is not None:
            spawn("pglisten-socketio-trim", self._trim, self._process, self._retention)

    def pre_connect(self, eio_sid: str, namespace: str) -> Any:
        """Let a client in when this process reads the log, so that the client misses no message."""
        self.initialize()
        if not self._process.reading.finished_within(CONNECT_WAIT):
            logger.warning("a client connects while the log cannot be read: it may miss messages")
        return super().pre_connect(eio_sid, namespace)

    def emit(  # noqa: PLR0917 - as in python-socketio
        self,
        event: str,
        data: Any,
        namespace: str | None = None,
        room: Any = None,
        skip_sid: Any = None,
        callback: Callable[..., object] | None = None,
        to: Any = None,
        **kwargs: Any,
    ) -> None:
        """Emit to the clients of all processes; the arguments are those of ``Server.emit``."""
        if callback is not None and self.server is not None:
            # The answer of another process's client comes through the log.
            self.initialize()
        super().emit(event, data, namespace, room, skip_sid, callback, to, **kwargs)

    def _publish(self, data: dict[str, Any]) -> None:
        text: str = self.json.dumps(data)
        self._process.outbox.send(text)

    @property
    def _process(self) -> _Process:
        state = self._process_state
        if state is None or state.owner.forked:
            state = self._process_state = _Process(self._log, self.channel, self._timeout)
        return state

    def _listen(self) -> Iterator[dict[str, Any]]:
        process = self._process
        try:
            with self._follow(process) as follower:
                while True:
                    try:
                        entry = follower.get()
                    except ListenerClosed:
                        raise
                    except Error as error:
                        logger.error("messages cannot be read: %s", error)
                        self._pause(process)
                        continue
                    if entry is None:
                        self._report_gap()
                    elif (message := self._message(process, entry.payload)) is not None:
                        yield message
        except ListenerClosed:
            process.ended.set()
            # python-socketio would report the end of this generator as a mistake.
            raise gevent.GreenletExit from None

    def _message(self, process: _Process, payload: str) -> dict[str, Any] | None:
        """Return a message that is new here. One that is broken would end python-socketio's loop."""
        text = process.inbox.unwrap(payload)
        if text is None:
            return None
        try:
            message = self.json.loads(text)
        except Exception:  # noqa: BLE001 - the application chooses the module, and so its errors
            message = None
        if isinstance(message, dict) and "method" in message:
            return message
        logger.warning("an entry of the log is no message of a manager")
        return None

    def _follow(self, process: _Process) -> Follower:
        while True:
            try:
                follower = self._log.follow(self.channel)
            except ListenerClosed:
                raise
            except Error as error:
                logger.error("messages cannot be read: %s", error)
                self._pause(process)
            else:
                process.reading.resolve()
                return follower

    def _pause(self, process: _Process) -> None:
        gevent.sleep(RETRY)
        if process.owner.forked:
            raise gevent.GreenletExit

    def _report_gap(self) -> None:
        if self._on_gap is None:
            logger.warning("messages are missing: they were trimmed before this process had read them")
            return
        try:
            self._on_gap()
        except Exception:
            logger.exception("on_gap failed")

    def _trim(self, process: _Process, retention: float) -> None:
        """Remove old entries now and then. All processes do, at random times, so one is enough."""
        told = ""
        broadcaster = broadcaster_of(self._log)
        while not process.ended.wait(retention / 4 * (1 + random.random())):  # noqa: S311 - no secret
            if process.owner.forked:
                return
            since = broadcaster.stats().connected_since
            # After an outage of the server, the others may be still about to read the last entries before it.
            if since is None or time.time() - since < retention:
                continue
            try:
                self._log.trim(older_than=retention, timeout=TRIM_LIMIT)
            except ListenerClosed:
                return
            except Error as error:
                if told != (told := str(error)):
                    logger.warning("old messages cannot be removed: %s", error)


class _Process:
    """What belongs to one process."""

    def __init__(self, log: EventLog, channel: str, timeout: float | None) -> None:
        self.owner = Owner()
        self.host_id = uuid.uuid4().hex
        self.outbox = Outbox(log, channel, self.host_id, timeout)
        self.inbox = Inbox(self.host_id)
        self.started = False
        self.reading = Completion()
        """Resolved when each message that is sent from now on will arrive."""
        self.ended = Event()
        """Set when no more messages come."""
