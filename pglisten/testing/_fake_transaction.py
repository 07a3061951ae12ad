"""The effects of one query at the fake server, which no other session sees before the commit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from .._sql import MAX_CHANNEL, MAX_PAYLOAD
from ..backend import Notification
from ..errors import ServerError, copy_for_raise
from ._fake_process import FakeProcess
from ._fake_sql import Call, Listen, Notify, Statement, Unlisten, Value

__all__ = ["FakeTransaction"]

_Result = str | int | float | None


class FakeTransaction:
    """Run the statements of one query; `channels` and `notifications` take effect at its commit.

    ``rows`` are the rows of the last statement.
    """

    def __init__(
        self,
        process: FakeProcess,
        *,
        sessions: Callable[[], Collection[int]],
        terminate: Callable[[int], bool],
        refuse_listen: Mapping[str, ServerError],
        in_recovery: bool,
        read_only: bool,
    ) -> None:
        self.rows: list[tuple[str | None, ...]] = []
        self.channels = dict(process.channels)
        self.notifications: dict[Notification, None] = {}  # in order, without duplicates
        self._process = process
        self._sessions = sessions
        self._terminate = terminate
        self._refuse_listen = refuse_listen
        self._in_recovery = in_recovery
        self._settings = {
            **process.settings,
            "transaction_read_only": "on" if in_recovery or read_only else "off",
        }

    def run(self, statement: Statement) -> None:
        """Run *statement*. Raises `ServerError`, and `ConnectionLost` if the session ends meanwhile."""
        self.rows = []
        if isinstance(statement, Listen):
            self._refuse_in_recovery("LISTEN")
            if statement.channel in self._refuse_listen:
                raise copy_for_raise(self._refuse_listen[statement.channel])
            self.channels[statement.channel] = None
        elif isinstance(statement, Unlisten):
            if statement.channel is None:
                self.channels.clear()
            else:
                self.channels.pop(statement.channel, None)
        elif isinstance(statement, Notify):
            self._notify(statement.channel, statement.payload)
        else:
            self.rows = [tuple(map(self._text, row)) for row in statement.rows]

    def _refuse_in_recovery(self, command: str) -> None:
        # A standby allows UNLISTEN, and a read-only primary allows LISTEN and NOTIFY (utility.c).
        if self._in_recovery:
            raise ServerError(f"cannot execute {command} during recovery", sqlstate="25006")

    def _setting(self, name: str, *, missing_ok: bool) -> str | None:
        if name not in self._settings and not missing_ok:
            raise ServerError(f'unrecognized configuration parameter "{name}"', sqlstate="42704")
        return self._settings.get(name)

    def _notify(self, channel: str, payload: str) -> None:
        self._refuse_in_recovery("NOTIFY")
        if len(payload.encode()) > MAX_PAYLOAD:
            raise ServerError("payload string too long", sqlstate="22023")
        self.notifications[Notification(self._process.pid, channel, payload)] = None

    def _pg_notify(self, channel: str, payload: str) -> None:
        # Unlike pg_notify, NOTIFY truncates the name, as every identifier.
        if not channel:
            raise ServerError("channel name cannot be empty", sqlstate="22023")
        if len(channel.encode()) > MAX_CHANNEL:
            raise ServerError("channel name too long", sqlstate="22023")
        self._notify(channel, payload)

    def _text(self, value: Value) -> str | None:
        result = self._evaluate(value)
        return None if result is None else str(result)

    def _evaluate(self, value: Value) -> _Result:
        if not isinstance(value, Call):
            return value
        arguments = [self._evaluate(argument) for argument in value.arguments]
        result: _Result = ""
        match value.function, arguments:
            case "pg_notify", [channel, payload]:
                self._pg_notify(str(channel), str(payload))
            case "pg_sleep", [int() | float() as seconds]:
                self._process.sleep(seconds)
            case "pg_terminate_backend", [int() as pid]:
                result = "true" if self._terminate(pid) else "false"
                self._process.check()  # it may have been this session
            case "count", [_, *pid]:
                # LISTEN takes effect with the commit.
                result = int(pid[0] in self._sessions()) if pid else len(self._process.channels)
            case "pg_backend_pid", []:
                result = self._process.pid
            case "pg_is_in_recovery", []:
                result = "true" if self._in_recovery else "false"
            case "pg_notification_queue_usage", []:
                result = 0  # no notification is queued for slow receivers
            case "repeat", [str() as text, int() as times]:
                result = text * times
            case "current_setting", [str() as name, *missing_ok] if missing_ok in ([], ["true"]):
                result = self._setting(name, missing_ok=bool(missing_ok))
            case function, _:
                raise ServerError(
                    f"the fake server has no function {function} with these arguments", sqlstate="42883"
                )
        return result
