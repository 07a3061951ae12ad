"""What psycopg2 does not offer and libpq does. The one file that goes behind psycopg2's back.

psycopg2 documents ``connection.pgconn_ptr`` for this use with ctypes; the functions are libpq's public
ones, in the library that psycopg2 itself is linked to. Three things need them:

* The SQLSTATE of a failed attempt, and of the FATAL that ends a session. psycopg2 has the text alone;
  PQERRORS_VERBOSE puts the code into it. What comes to an idle session is a notice to libpq, and a
  notice receiver gets its fields.
* What had arrived when a connection was lost. psycopg2's poll reads before it looks at what libpq has
  parsed. If that reading finds the end of the stream, what came in behind the last reply is out of
  psycopg2's reach: notifications, and the server's reason with them.
* Why an attempt failed, in bytes: the text may be in any encoding, and psycopg2 then has a damaged one or
  none (2.9.9).

Where the functions cannot be had (a libpq linked in statically, its symbols hidden), these are missing
and nothing else changes.
"""

from __future__ import annotations

import ctypes
import logging
from typing import Protocol, cast
from weakref import WeakValueDictionary

from psycopg2 import _psycopg  # pyright: ignore[reportPrivateUsage]
from psycopg2.extensions import connection

from pglisten.backend import Notification, server_text

from ._reasons import ServerMessage, one_line, server_messages

__all__ = ["LibpqAccess"]

logger = logging.getLogger("pglisten.psycopg2")

PQERRORS_VERBOSE = 2
"""The third of ``PGVerbosity`` in libpq-fe.h: terse, default, verbose."""

NOTICES_KEPT = 50
"""As many as psycopg2 keeps (CONN_NOTICES_LIMIT): one query can raise millions."""


class _Libpq(Protocol):
    """All we use of libpq."""

    def set_error_verbosity(self, pgconn: int, verbosity: int, /) -> int: ...

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
    """libpq's functions with their types, from the library that psycopg2 has loaded."""

    def __init__(self, path: str) -> None:
        # PyDLL keeps the GIL, as psycopg2's poll does: none of these waits. Looking a symbol up in an
        # extension module also searches the libraries that it depends on (dlsym(3)).
        library = ctypes.PyDLL(path)
        self.set_error_verbosity = library.PQsetErrorVerbosity
        self.set_error_verbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
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
    """Return libpq's functions from the library at *path*, ``None`` where they cannot be had."""
    if path is None:
        return None
    try:
        return cast("_Libpq", _Bound(path))
    except (AttributeError, OSError) as error:
        logger.info("libpq's functions cannot be reached, errors come without SQLSTATE: %s", error)
        return None


_libpq = bind(_psycopg.__file__)


class LibpqAccess:
    """Listens in on *conn*, from before its first poll, until it is closed."""

    def __init__(self, conn: connection) -> None:
        self._connection = conn
        self._notices: list[ServerMessage] = []
        self._pgconn = 0
        if _libpq is not None and (pgconn := conn.pgconn_ptr):
            self._pgconn = pgconn
            _by_pgconn[pgconn] = self
            _libpq.set_error_verbosity(pgconn, PQERRORS_VERBOSE)
            _libpq.set_notice_receiver(pgconn, _notice_receiver, pgconn)

    def notices(self) -> list[ServerMessage]:
        """Return what the server said beside its replies since the last call, the last 50 at most."""
        if self._pgconn:
            said, self._notices = self._notices, []
            return said
        texts, self._connection.notices = self._connection.notices, []
        return [said for text in texts for said in server_messages(text)]

    def add_notice(self, said: ServerMessage) -> None:
        """Keep *said* for `notices`."""
        self._notices.append(said)
        del self._notices[:-NOTICES_KEPT]

    def reason(self, error: Exception) -> str:
        """Return the text of *error*, which has just been raised, as libpq has it if it is libpq's.

        psycopg2's has U+FFFD for what is not UTF-8, or is empty.
        """
        text = str(error)
        if _libpq is None or not self._pgconn:
            return text
        data = _libpq.error_message(self._pgconn) or b""
        # psycopg2 leaves the severity out, if it is in English.
        damaged = data.decode("utf-8", "replace").strip()
        return server_text(data) if damaged.endswith(text.strip()) else text

    def unread_notifications(self) -> list[Notification]:
        """Return the notifications that libpq has read and psycopg2 does not know of. Reads nothing more."""
        found: list[Notification] = []
        while _libpq is not None and self._pgconn and (pointer := _libpq.notifies(self._pgconn)):
            notify = pointer.contents
            found.append(Notification(notify.be_pid, _text(notify.relname), _text(notify.extra)))
            _libpq.freemem(pointer)
        return found

    def close(self) -> None:
        """To be called before *conn* is closed, which makes the pointer to it invalid."""
        _by_pgconn.pop(self._pgconn, None)
        self._pgconn = 0


_by_pgconn: WeakValueDictionary[int, LibpqAccess] = WeakValueDictionary()
"""By the address of their PGconn, which is what libpq hands to the notice receiver."""


def _receive_notice(pgconn: int, result: int) -> None:
    access = _by_pgconn.get(pgconn)
    if access is not None and _libpq is not None:
        # Servers before 9.6 send no severity that is not localised.
        severity, localised, sqlstate, message = (
            _libpq.result_error_field(result, ord(field)) for field in "VSCM"
        )
        said = (server_text(field or b"") for field in (severity or localised, sqlstate, message))
        access.add_notice(ServerMessage(next(said), next(said) or None, one_line(next(said))))


# One for all connections, and never freed: libpq could not be told that it is gone.
_notice_receiver = _NoticeReceiver(_receive_notice)


def _text(data: bytes | None) -> str:
    # As psycopg2 does with channels and payloads.
    return (data or b"").decode("utf-8", "replace")
