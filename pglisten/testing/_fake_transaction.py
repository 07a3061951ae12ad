"""What one query does at the fake server: nothing that anybody sees until it commits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from .._sql import MAX_CHANNEL, MAX_PAYLOAD
from ..backend import Notification
from ..errors import ServerError, again
from ._fake_process import FakeProcess
from ._fake_sql import Call, Listen, Notify, Statement, Unlisten, Value

__all__ = ["FakeTransaction"]

_Result = str | int | float


class FakeTransaction:
    """The statements of one query; `channels` and `notifications` are what its commit will bring."""

    def __init__(
        self,
        process: FakeProcess,
        *,
        sessions: Callable[[], Collection[int]],
        terminate: Callable[[int], bool],
        refuse_listen: Mapping[str, ServerError],
    ) -> None:
        self.channels = dict(process.channels)
        self.notifications: dict[Notification, None] = {}  # in order, and a duplicate counts once
        self._process = process
        self._sessions = sessions
        self._terminate = terminate
        self._refuse_listen = refuse_listen

    def run(self, statement: Statement) -> None:
        """Run *statement*. Raises `ServerError`, and `ConnectionLost` if the session ends meanwhile."""
        if isinstance(statement, Listen):
            if statement.channel in self._refuse_listen:
                raise again(self._refuse_listen[statement.channel])
            self.channels[statement.channel] = None
        elif isinstance(statement, Unlisten):
            if statement.channel is None:
                self.channels.clear()
            else:
                self.channels.pop(statement.channel, None)
        elif isinstance(statement, Notify):
            self._notify(statement.channel, statement.payload)
        else:
            for value in statement.values:
                self._evaluate(value)

    def _notify(self, channel: str, payload: str) -> None:
        if len(payload.encode()) > MAX_PAYLOAD:
            raise ServerError("payload string too long", sqlstate="22023")
        self.notifications[Notification(self._process.pid, channel, payload)] = None

    def _pg_notify(self, channel: str, payload: str) -> None:
        # Unlike NOTIFY, which cuts the name as it cuts every identifier.
        if not channel:
            raise ServerError("channel name cannot be empty", sqlstate="22023")
        if len(channel.encode()) > MAX_CHANNEL:
            raise ServerError("channel name too long", sqlstate="22023")
        self._notify(channel, payload)

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
                self._process.check()  # it may have been this one
            case "count", [int() as pid]:
                result = int(pid in self._sessions())
            case "pg_backend_pid", []:
                result = self._process.pid
            case "current_setting", [str() as name] if name in self._process.settings:
                result = self._process.settings[name]
            case function, _:
                raise ServerError(
                    f"the fake server has no function {function} with these arguments", sqlstate="42883"
                )
        return result
