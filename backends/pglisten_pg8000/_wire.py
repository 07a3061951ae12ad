"""The frontend/backend protocol after start-up: bytes in, notifications and replies out.

Nothing here waits, and nothing knows a socket. One simple query is under way at a time::

    state   message                              next state
    IDLE    query() called                       BUSY
    BUSY    ReadyForQuery                        IDLE
    BUSY    RowDescription, DataRow,             BUSY
            CommandComplete, EmptyQueryResponse
    IDLE    ErrorResponse                        IDLE    the server is about to say goodbye
    BUSY    ErrorResponse                        BUSY    the reply
    either  NotificationResponse,                same
            NoticeResponse, ParameterStatus
    either  ErrorResponse FATAL or PANIC         ENDED
    either  anything else, or malformed          ENDED

`NEXT_STATE` is this table. A message is judged by its five-byte header, before its body is awaited,
and of a body no more is kept than is used: memory stays bounded whatever the server sends. Rows are thrown
away as they come, unless somebody wants them: see `Rows`.
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
    """Whose turn it is."""

    IDLE = "idle"
    BUSY = "busy"
    ENDED = "ended"


TERMINATE = b"X\0\0\0\x04"
"""The polite end of a session (PostgreSQL docs, 55.7, Terminate)."""

_HEADER = Struct("!BI")
_NOTIFICATION = Struct("!BIi")
_LENGTH_ITSELF = 4
"""A message's length counts its own four bytes, but not the type byte before them."""

_A, _C, _D, _E, _I, _N, _S, _T, _Z = b"ACDEINSTZ"
_COPY = b"GHW"
"""CopyInResponse, CopyOutResponse, CopyBothResponse."""

MAX_NOTIFICATION = 8 + 4 * 32768
"""Longest NotificationResponse, in bytes. Channel and payload fit into one page of the queue, a page
has 32 kB at most (BLCKSZ), and conversion to UTF-8 makes text four times longer at most
(MAX_CONVERSION_GROWTH)."""

_MAX_LONG = 0x3FFFFFFF
"""PQ_LARGE_MESSAGE_LIMIT: no server can build a longer message."""

_MAX_SHORT = 1024
"""For a command tag; the server's own buffer has 64 bytes (COMPLETION_TAG_BUFSIZE)."""

KEPT_OF_ERROR = 8192
"""How much of an error or notice is read, in bytes: severity, code and message come first, and
nobody reads longer ones. A server may send a gigabyte of it."""

# Type: the longest body that is possible, and how much of it is used.
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
"""What may come, and what it leads to; a pair that is missing is a violation of the protocol."""

_ENDING = ("FATAL", "PANIC")
_SHUTDOWN_CLASS = "57P"
"""A crash or an immediate shutdown says why in a WARNING of this class (57P01, 57P02), then hangs up."""


class WireProtocol:
    """One session's half of the protocol. Its only error is `ConnectionLost`, and then it is over."""

    def __init__(self) -> None:
        self.state = State.IDLE
        self.notifications: list[Notification] = []
        """Notifications that were parsed and not taken yet, oldest first."""
        self._partial = bytearray()
        self._needed = 0
        """How long ``_partial`` must be before looking at it again makes sense."""
        self._to_skip = 0
        """How many bytes of the current message are still to be thrown away."""
        self._rows: Rows | None = None
        """Of the query under way, if they are wanted."""
        self._refusal: ServerError | None = None
        self._last_error: ServerError | None = None
        """The last thing the server said that would explain the end of the session."""
        self._ended: ConnectionLost | None = None

    def query(self, sql: str, rows: Rows | None = None) -> bytes:
        """Return the message that runs *sql*; the reply is awaited from now on, and its *rows* collected."""
        assert self.state is State.IDLE, self.state
        body = sql.encode() + b"\0"
        self.state = State.BUSY
        self._refusal = None
        self._rows = rows
        return b"Q" + (len(body) + _LENGTH_ITSELF).to_bytes(4, "big") + body

    def take_notifications(self) -> list[Notification]:
        """Return the notifications that were parsed since the last call, oldest first."""
        taken, self.notifications = self.notifications, []
        return taken

    def take_refusal(self) -> ServerError | None:
        """Return what the last query was refused with, once."""
        refusal, self._refusal = self._refusal, None
        return refusal

    def end(self, default: str = "server closed the connection unexpectedly") -> ConnectionLost:
        """Return why the session is over: what the server said last, or *default* if it said nothing."""
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
        """Parse what arrived. Raises `ConnectionLost` when the server ends the session or talks nonsense.

        What came before that can still be taken.
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

        The hot path: a burst is nothing else. What can be done for all of them at once, is.
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
        # The server checks what it sends, unless somebody set client_encoding to SQL_ASCII: better a
        # replacement character then than a connection that every such payload ends.
        parts = body.decode("utf-8", "replace").split("\0")
        if len(parts) != 3:
            raise self._violation("a malformed notification")
        return parts

    def _skip_rows(self, data: bytes, at: int) -> int:
        """Skip the run of rows at *at*; return where it ends. One by one, they would hold up the hub."""
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
        """Parse the one message at *at*; return where it ends, or *at* if more of it must come first."""
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
        """Act on a message that is allowed; *body* is the part of it that is used."""
        if kind == _Z:
            if body not in (b"I", b"T", b"E"):
                raise self._violation("a malformed ReadyForQuery")
            self._last_error = None  # the session goes on, so nothing said before can be why it ends
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
        self._last_error = None  # it is not why: we end it
        return self.end(f"{who} {what}")
