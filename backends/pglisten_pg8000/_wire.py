"""The frontend/backend protocol after start-up: bytes in, notifications and replies out.

This module knows no socket and never waits. One simple query is under way at a time::

    state   message                              next state
    IDLE    query() called                       BUSY
    BUSY    ReadyForQuery                        IDLE
    BUSY    RowDescription, DataRow,             BUSY
            CommandComplete, EmptyQueryResponse
    IDLE    ErrorResponse                        IDLE    the server is about to end the session
    BUSY    ErrorResponse                        BUSY    the reply
    either  NotificationResponse,                same
            NoticeResponse, ParameterStatus
    either  ErrorResponse FATAL or PANIC         ENDED
    either  anything else, or malformed          ENDED

`NEXT_STATE` is this table. The parser checks a message by its five-byte header before the body arrives. It
keeps only the part of a body that it uses, so memory stays bounded whatever the server sends. It discards
rows as they arrive, except if the caller wants them: see `Rows`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from struct import Struct
from typing import TypeVar

from pglisten.backend import Notification, make_notifications
from pglisten.errors import ConnectionLost, ServerError, copy_for_raise

from ._error import read_error
from ._rows import BadRows, Rows

__all__ = ["TERMINATE", "State", "WireProtocol"]

_Part = TypeVar("_Part")


class State(Enum):
    """What the session is doing."""

    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


TERMINATE = b"X\0\0\0\x04"
"""The message that ends a session (PostgreSQL docs, 55.7, Terminate)."""

_HEADER = Struct("!BI")
_NOTIFICATION = Struct("!BIi")
_LENGTH_ITSELF = 4
"""A message's length counts its own four bytes, but not the type byte before them."""

_A, _C, _D, _E, _I, _N, _S, _T, _Z = b"ACDEINSTZ"
_COPY = b"GHW"
"""CopyInResponse, CopyOutResponse, CopyBothResponse."""

MAX_NOTIFICATION = 8 + 4 * 32768
"""Longest NotificationResponse, in bytes. Channel and payload fit into one page of the queue. A page has at
most 32 kB (BLCKSZ), and conversion to UTF-8 makes text at most four times longer (MAX_CONVERSION_GROWTH)."""

_MAX_LONG = 0x3FFFFFFF
"""PQ_LARGE_MESSAGE_LIMIT: no server can build a longer message."""

_MAX_SHORT = 1024
"""Longest command tag, in bytes. The server's own buffer has 64 (COMPLETION_TAG_BUFSIZE)."""

KEPT_OF_ERROR = 8192
"""How many bytes of an error or notice are read. Severity, code and message come first. A server may send a
gigabyte, and this is more than a person reads."""

# For each type, the longest possible body, and how much of it is used, in bytes.
_BODY: dict[int, tuple[int, int]] = {
    _C: (_MAX_SHORT, 0),
    _D: (_MAX_LONG, 0),
    _E: (_MAX_LONG, KEPT_OF_ERROR),
    _I: (0, 0),
    _N: (_MAX_LONG, KEPT_OF_ERROR),
    _S: (_MAX_LONG, 0),
    _T: (_MAX_LONG, 2),
    _Z: (1, 1),
}

NEXT_STATE: dict[tuple[State, int], State] = {
    **{(State.BUSY, kind): State.BUSY for kind in (_C, _D, _E, _I, _T)},
    **{(state, kind): state for state in (State.IDLE, State.BUSY) for kind in (_A, _N, _S)},
    (State.IDLE, _E): State.IDLE,
    (State.BUSY, _Z): State.IDLE,
}
"""The next state for each state and message type. A missing pair is a violation of the protocol."""

_ENDING = ("FATAL", "PANIC")
_SHUTDOWN_CLASS = "57P"
"""Before a crash or an immediate shutdown, the server sends a WARNING of this class (57P01, 57P02)."""


class WireProtocol:
    """The client's side of one session's protocol. Its only error is `ConnectionLost`, which ends it."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.notifications: list[Notification] = []
        """Parsed notifications that `take_notifications` has not returned yet, oldest first."""
        self._partial = bytearray()
        self._needed = 0
        """How many bytes ``_partial`` must hold before the next attempt to parse it."""
        self._to_skip = 0
        """How many bytes of the current message are still to be discarded."""
        self._rows: Rows | None = None
        """The rows of the query under way; ``None`` if the caller does not want them."""
        self._refusal: ServerError | None = None
        self._last_error: ServerError | None = None
        """The server's last error or notice that would explain the end of the session."""
        self._ended: ConnectionLost | None = None

    def query(self, sql: str, rows: Rows | None = None) -> bytes:
        """Return the message that runs *sql*, and expect the reply. Collect its rows in *rows*."""
        assert self.state is State.IDLE, self.state
        body = sql.encode() + b"\0"
        self.state = State.BUSY
        self._refusal = None
        self._rows = rows
        return b"Q" + (len(body) + _LENGTH_ITSELF).to_bytes(4, "big") + body

    def take_notifications(self) -> list[Notification]:
        """Return the notifications that were parsed since the last call, oldest first."""
        notifications, self.notifications = self.notifications, []
        return notifications

    def take_refusal(self) -> ServerError | None:
        """Return the error that refused the last query, or ``None``. A second call returns ``None``."""
        refusal, self._refusal = self._refusal, None
        return refusal

    def end(self, default: str = "server closed the connection unexpectedly") -> ConnectionLost:
        """End the session and return why: the server's last message, or *default* if there is none."""
        if self._ended is None:
            reason = self._last_error
            self._ended = (
                ConnectionLost(default)
                if reason is None
                else ConnectionLost(" ".join(reason.message.split()), sqlstate=reason.sqlstate)
            )
            self.state = State.ENDED
            self._partial.clear()
        return self._ended

    def feed(self, data: bytes) -> None:
        """Parse *data*. Raises `ConnectionLost` if the server ends the session or violates the protocol.

        `take_notifications` still returns the notifications that came before that.
        """
        if self._ended is not None:
            raise copy_for_raise(self._ended)
        if self._partial:
            self._partial += data
            if len(self._partial) < self._needed:
                return
            data = bytes(self._partial)
            self._partial.clear()
        at = min(self._to_skip, len(data))
        self._to_skip -= at
        while at < len(data):
            start = at
            at = self._parse_notifications(data, at)
            if self.state is State.BUSY and self._rows is None:
                at = self._skip_rows(data, at)
            at = self._parse_message(data, at)
            if at == start:
                self._partial += data[at:]
                return

    def _parse_notifications(self, data: bytes, at: int) -> int:
        """Parse the run of notifications at *at*; return where it ends.

        This is the hot path, because a burst consists of notifications only. So do as much as possible for
        all of them at once.
        """
        found: list[tuple[int, str, str]] = []
        append, unpack = found.append, _NOTIFICATION.unpack_from
        end = len(data)
        last = end - _NOTIFICATION.size
        try:
            while at <= last:
                kind, length, pid = unpack(data, at)
                stop: int = at + 1 + length
                if kind != _A or stop > end or length > MAX_NOTIFICATION:
                    break  # `_parse_message` knows what to do
                try:
                    channel, payload, rest = data[at + 9 : stop].decode().split("\0")
                except ValueError:
                    channel, payload, rest = self._decode_lenient(data[at + 9 : stop])
                if rest:
                    raise self._violation("a malformed notification")
                append((pid, channel, payload))
                at = stop
        finally:
            self.notifications.extend(make_notifications(found))
        return at

    def _decode_lenient(self, body: bytes) -> list[str]:
        # The server sends valid UTF-8, except if the session's client_encoding was set to SQL_ASCII. In that
        # case a replacement character is better than a lost connection for each such payload.
        parts = body.decode("utf-8", "replace").split("\0")
        if len(parts) != 3:
            raise self._violation("a malformed notification")
        return parts

    def _skip_rows(self, data: bytes, at: int) -> int:
        """Skip the run of rows at *at*; return where it ends.

        `_parse_message` for each row would block the hub.
        """
        unpack = _HEADER.unpack_from
        end = len(data)
        last = end - _HEADER.size
        while at <= last:
            kind, length = unpack(data, at)
            stop: int = at + 1 + length
            if kind != _D or stop > end or length < _LENGTH_ITSELF:
                break  # `_parse_message` knows what to do
            at = stop
        return at

    def _parse_message(self, data: bytes, at: int) -> int:
        """Parse one message at *at*; return where it ends, or *at* if more of it must arrive first."""
        available = len(data) - at
        if available < _HEADER.size:
            self._needed = _HEADER.size
            return at
        header: tuple[int, int] = _HEADER.unpack_from(data, at)
        kind, length = header
        next_state = NEXT_STATE.get((self.state, kind))
        if next_state is None:
            raise self._unexpected(kind)
        if kind == _A:
            if not _NOTIFICATION.size < length <= MAX_NOTIFICATION:
                raise self._violation("a malformed notification")
            self._needed = 1 + length
            return at
        body = length - _LENGTH_ITSELF
        longest, used = _BODY[kind]
        if not 0 <= body <= longest:
            raise self._violation(f"a message of type {chr(kind)} with {length} bytes")
        if self._rows is not None and kind == _D:
            self._collect(self._rows.admit, body)
            used = body
        self._needed = _HEADER.size + min(body, used)
        if available < self._needed:
            return at
        self._handle(kind, data[at + _HEADER.size : at + self._needed], next_state)
        whole = 1 + length
        self._to_skip = max(0, whole - available)
        return at + min(whole, available)

    def _handle(self, kind: int, body: bytes, next_state: State) -> None:
        """Act on an allowed message. *body* is the part of it that is used."""
        if kind == _Z:
            if body not in (b"I", b"T", b"E"):
                raise self._violation("a malformed ReadyForQuery")
            self._last_error = None  # The session continues, so no earlier message explains its end.
            self._rows = None
        elif kind == _E:
            error = self._last_error = read_error(body)
            if error.severity in _ENDING:
                raise self.end()
            if self.state is State.BUSY and self._refusal is None:
                self._refusal = error
        elif kind == _N:
            notice = read_error(body)
            if notice.sqlstate.startswith(_SHUTDOWN_CLASS):
                self._last_error = notice
        elif self._rows is not None:
            if kind == _T:
                self._collect(self._rows.describe, body)
            elif kind == _D:
                self._collect(self._rows.add, body)
            elif kind == _C:
                self._rows.complete()
        self.state = next_state

    def _collect(self, step: Callable[[_Part], None], part: _Part) -> None:
        try:
            step(part)
        except BadRows as exc:
            raise self._violation(str(exc), "the server sent") from None

    def _unexpected(self, kind: int) -> ConnectionLost:
        if self.state is State.BUSY and kind in _COPY:
            return self._violation("the start of a COPY, which is not possible here", "the server sent")
        return self._violation(f"a message of type {chr(kind)!r} while {self.state.value}")

    def _violation(self, what: str, who: str = "the server broke the protocol with") -> ConnectionLost:
        self._last_error = None  # It is not the reason: the client ends the session.
        return self.end(f"{who} {what}")
