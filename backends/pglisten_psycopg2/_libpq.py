"""Access to functions of libpq that psycopg2 does not offer. No other file bypasses psycopg2.

psycopg2 documents ``connection.pgconn_ptr`` for use with ctypes. The functions are public functions of libpq,
in the library that psycopg2 itself is linked to. They give

* the SQLSTATE of a failed attempt, and of the FATAL that ends a session. psycopg2 has only the text, and
  PQERRORS_VERBOSE puts the code into it. To libpq, a message to an idle session is a notice, and a notice
  receiver gets its fields;
* the notifications that had arrived when a connection was lost. psycopg2's poll reads before it looks at what
  libpq has parsed. If it reads the end of the stream, psycopg2 cannot reach what arrived after the last
  reply: notifications, and the server's reason;
* the bytes of the message of a failed attempt. The message may be in any encoding, and psycopg2 (2.9.9) then
  has a damaged text or none.

If the functions cannot be reached (libpq is linked statically and its symbols are hidden), only these three
are missing.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Protocol, cast
from weakref import WeakValueDictionary

from psycopg2 import _psycopg  # pyright: ignore[reportPrivateUsage]
from psycopg2.extensions import connection

from pglisten.backend import Notification, server_text
from pglisten_libpq.reasons import ServerMessage, one_line, server_messages
from pglisten_libpq.verbosity import show_sqlstates

__all__ = ["LibpqAccess"]

logger = logging.getLogger("pglisten.psycopg2")

NOTICES_KEPT = 50
"""The same number that psycopg2 keeps (CONN_NOTICES_LIMIT), because one query can raise millions."""


class _Libpq(Protocol):
    """All functions of libpq that are used here."""

    def set_notice_receiver(self, pgconn: int, receiver: object, arg: int, /) -> int | None: ...

    def error_message(self, pgconn: int, /) -> bytes | None: ...

    def result_error_field(self, result: int, fieldcode: int, /) -> bytes | None: ...

    def notifies(self, pgconn: int, /) -> ctypes._Pointer[_PGnotify]: ...  # pyright: ignore[reportPrivateUsage]

    def freemem(self, pointer: object, /) -> None: ...


class _PGnotify(ctypes.Structure):
    """``PGnotify`` in libpq-fe.h, without its private last member."""

    _fields_ = (("relname", ctypes.c_char_p), ("be_pid", ctypes.c_int), ("extra", ctypes.c_char_p))
    relname: bytes
    be_pid: int
    extra: bytes


_NoticeReceiver = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)


class _Bound:
    """Functions of libpq with their types, from the library that psycopg2 has loaded."""

    def __init__(self, path: str) -> None:
        # PyDLL keeps the GIL, because none of these functions waits; psycopg2's poll keeps it, too. A lookup
        # in an extension module also searches the libraries that it depends on (dlsym(3)).
        library = ctypes.PyDLL(path)
        self.set_notice_receiver = library.PQsetNoticeReceiver
        self.set_notice_receiver.argtypes = [ctypes.c_void_p, _NoticeReceiver, ctypes.c_void_p]
        self.set_notice_receiver.restype = ctypes.c_void_p
        self.result_error_field = library.PQresultErrorField
        self.result_error_field.argtypes = [ctypes.c_void_p, ctypes.c_int]
        self.result_error_field.restype = ctypes.c_char_p
        self.error_message = library.PQerrorMessage
        self.error_message.argtypes = [ctypes.c_void_p]
        self.error_message.restype = ctypes.c_char_p
        self.notifies = library.PQnotifies
        self.notifies.argtypes = [ctypes.c_void_p]
        self.notifies.restype = ctypes.POINTER(_PGnotify)
        self.freemem = library.PQfreemem
        self.freemem.argtypes = [ctypes.c_void_p]
        self.freemem.restype = None


def bind(path: str | None) -> _Libpq | None:
    """Return libpq's functions from the library at *path*; ``None`` if they cannot be reached."""
    if path is None:
        return None
    try:
        return cast("_Libpq", _Bound(path))
    except (AttributeError, OSError) as error:
        logger.info("libpq's functions cannot be reached, errors come without SQLSTATE: %s", error)
        return None


_libpq = bind(_psycopg.__file__)


class LibpqAccess:
    """Reads from libpq what psycopg2 does not offer, for one connection.

    Make it before the first poll of *conn*, and close it before *conn*.
    """

    def __init__(self, conn: connection) -> None:
        self._connection = conn
        self._notices: list[ServerMessage] = []
        self._pgconn = 0
        if _libpq is not None and (pgconn := conn.pgconn_ptr):
            self._pgconn = pgconn
            _by_pgconn[pgconn] = self
            show_sqlstates(pgconn, _psycopg.__file__)
            _libpq.set_notice_receiver(pgconn, _notice_receiver, pgconn)

    def notices(self) -> list[ServerMessage]:
        """Return the server's notices since the last call, at most the last `NOTICES_KEPT`."""
        if self._pgconn:
            notices, self._notices = self._notices, []
            return notices
        texts, self._connection.notices = self._connection.notices, []
        return [message for text in texts for message in server_messages(text)]

    def add_notice(self, notice: ServerMessage) -> None:
        """Keep *notice* for `notices`."""
        self._notices.append(notice)
        del self._notices[:-NOTICES_KEPT]

    def reason(self, error: Exception) -> str:
        """Return the text of *error*, which psycopg2 has just raised. Use libpq's text if *error* has it.

        psycopg2's own text has U+FFFD for bytes that are not UTF-8, or is empty.
        """
        text = str(error)
        if _libpq is None or not self._pgconn:
            return text
        data = _libpq.error_message(self._pgconn) or b""
        # psycopg2 removes an English severity.
        damaged = data.decode("utf-8", "replace").strip()
        return server_text(data) if damaged.endswith(text.strip()) else text

    def unread_notifications(self) -> list[Notification]:
        """Return the notifications that libpq has read and psycopg2 does not know. Reads no more data."""
        found: list[Notification] = []
        while _libpq is not None and self._pgconn and (pointer := _libpq.notifies(self._pgconn)):
            notify = pointer.contents
            found.append(Notification(notify.be_pid, _text(notify.relname), _text(notify.extra)))
            _libpq.freemem(pointer)
        return found

    def close(self) -> None:
        """Stop using the pointer to *conn*, which becomes invalid when *conn* is closed."""
        _by_pgconn.pop(self._pgconn, None)
        self._pgconn = 0


_by_pgconn: WeakValueDictionary[int, LibpqAccess] = WeakValueDictionary()
"""By the address of the PGconn, which libpq passes to the notice receiver."""


def _receive_notice(pgconn: int, result: int) -> None:
    access = _by_pgconn.get(pgconn)
    if access is not None and _libpq is not None:
        # Servers before 9.6 send only a localised severity.
        severity, localised, sqlstate, message = (
            _libpq.result_error_field(result, ord(field)) for field in "VSCM"
        )
        texts = (server_text(field or b"") for field in (severity or localised, sqlstate, message))
        access.add_notice(ServerMessage(next(texts), next(texts) or None, one_line(next(texts))))


# One for all connections. It is never freed, because libpq keeps a pointer to it.
_notice_receiver = _NoticeReceiver(_receive_notice)


def _text(data: bytes | None) -> str:
    # psycopg2 decodes channels and payloads in the same way.
    return (data or b"").decode("utf-8", "replace")
