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
from collections.abc import Callable, Iterator
from typing import Any

import gevent

from ._completion import check_timeout
from ._eventlog.admin import check_older_than
from ._eventlog.follower import Follower
from ._greenlet import spawn
from ._options import on_gap as check_on_gap
from ._socketio.process import Process
from ._sql import check_channel
from .errors import ConfigurationError, Error, ListenerClosed
from .eventlog import EventLog, broadcaster_of

try:
    from socketio.pubsub_manager import PubSubManager
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "socketio":
        raise
    raise ImportError("pglisten.socketio needs python-socketio: pip install 'pglisten[socketio]'") from error

__all__ = ["PgManager"]

logger = logging.getLogger("pglisten.socketio")

CONNECT_WAIT = 10.0
"""Seconds that a client's connection waits until this process reads the log."""

LONGEST_PAUSE = 600.0
"""Seconds between two trims of a process are at most half of this: a worker may not live for longer."""

SETTLED = 120.0
"""Seconds after an outage in which all processes are back: by default they try once in 66 seconds."""

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

    Each process trims the log to *retention* seconds, all channels of it (``None``: none does). *on_gap* is
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
        check_on_gap(on_gap)
        self._log = log
        self._retention = _check_retention(retention)
        self._timeout = check_timeout(timeout)
        self._on_gap = on_gap
        # Made here, not at the first use: that may be in another thread, and its owner is this one.
        self._process_state = Process(log, check_channel(channel), self._timeout)
        super().__init__(channel=channel, write_only=write_only, logger=logger, json=json)

    @property
    def host_id(self) -> str:
        """The id of this process among the senders. A forked child has another one than its parent."""
        return self._process.host_id

    @host_id.setter
    def host_id(self, _: str) -> None:
        """Do nothing: python-socketio sets one id, before the fork of a worker."""

    @property
    def rooms(self) -> dict[str, Any]:
        """The clients of this process, for python-socketio. A forked child has none of its parent's.

        It has copies of their sockets, so a client would get what the child emits twice.
        """
        return self._process.rooms

    @rooms.setter
    def rooms(self, _: dict[str, Any]) -> None:
        """Do nothing: python-socketio sets them once."""

    def initialize(self) -> None:
        """Start to receive, in this process. python-socketio calls it when the first client connects."""
        process = self._process
        process.owner.check_thread()
        if self.write_only or process.started:
            return
        process.started = True
        super().initialize()
        if self._retention is not None:
            spawn("pglisten-socketio-trim", self._trim, process, self._retention)

    def pre_connect(self, eio_sid: str, namespace: str) -> Any:
        """Let a client in when this process reads the log, so that the client misses no message."""
        self.initialize()
        reading = self._process.reading
        if not self.write_only and not reading.done:
            if not reading.finished_within(CONNECT_WAIT):
                logger.warning("a client connects while the log cannot be read: it may miss messages")
            server: Any = self.server
            if eio_sid not in server.environ:
                # It has left meanwhile. python-socketio would keep it among its clients forever.
                return None
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
        text = self.json.dumps(data)
        # As orjson returns it.
        text = text.decode() if isinstance(text, bytes) else text
        self._process.send(text, answered=data.get("callback") is not None and not self.write_only)

    @property
    def _process(self) -> Process:
        if self._process_state.owner.forked:
            self._process_state = Process(self._log, self.channel, self._timeout)
        return self._process_state

    def _thread(self) -> None:
        process = self._process
        try:
            super()._thread()
        except _Closed:
            # Where python-socketio's threads are those of the standard library, it would be printed.
            return
        except gevent.GreenletExit:
            if not process.owner.forked:
                logger.error("messages are no longer received: the greenlet that reads them was killed")
        finally:
            process.end()

    def _handle_callback(self, message: dict[str, Any]) -> None:
        _call("a callback", super()._handle_callback, message)

    def _handle_disconnect(self, message: dict[str, Any]) -> None:
        _call("a disconnect handler", super()._handle_disconnect, message)

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
                        process.pause_after(error)
                        continue
                    process.refusal = None
                    if entry is None:
                        self._report_gap()
                    elif (message := self._message(process, entry.payload)) is not None:
                        yield message
        except ListenerClosed:
            # python-socketio would report the end of this generator as a mistake.
            raise _Closed from None

    def _message(self, process: Process, payload: str) -> dict[str, Any] | None:
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

    def _follow(self, process: Process) -> Follower:
        while True:
            try:
                follower = self._log.follow(self.channel)
            except ListenerClosed:
                raise
            except Error as error:
                process.pause_after(error)
            else:
                process.refusal = None
                process.reading.resolve()
                return follower

    def _report_gap(self) -> None:
        if self._on_gap is None:
            logger.warning("messages are missing: they were trimmed before this process had read them")
            return
        _call("on_gap", self._on_gap)

    def _trim(self, process: Process, retention: float) -> None:
        """Remove old entries now and then. All processes do, at random times, so one is enough."""
        told = ""
        broadcaster = broadcaster_of(self._log)
        pause = min(retention, LONGEST_PAUSE) / 4
        while not process.ended.wait(pause * (1 + random.random())):  # noqa: S311 - no secret
            if process.owner.forked:
                return
            since = broadcaster.stats().connected_since
            # After an outage of the server, the others may be still about to read the last entries before it.
            if since is None or time.time() - since < min(2 * retention, SETTLED):
                continue
            try:
                self._log.trim(older_than=retention, timeout=TRIM_LIMIT)
            except ListenerClosed:
                return
            except Error as error:
                if told != (told := str(error)):
                    logger.warning("old messages cannot be removed: %s", error)
            else:
                told = ""


class _Closed(gevent.GreenletExit):
    """The log's broadcaster was closed."""


def _call(what: str, function: Callable[..., object], *arguments: object) -> None:
    """Call the application's *function*, and log its failure.

    It runs in a greenlet of its own: a `gevent.Timeout` that it leaves behind does not end the reading.
    """

    def run() -> None:
        try:
            function(*arguments)
        except (gevent.GreenletExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            logger.exception("%s failed", what)

    spawn("pglisten-socketio-call", run).join()


def _check_retention(retention: float | None) -> float | None:
    try:
        seconds = check_older_than(retention)
    except ConfigurationError:
        seconds = 0
    if seconds == 0:
        raise ConfigurationError("retention is seconds above 0, or None", option="retention")
    return seconds
