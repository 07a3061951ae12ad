"""The interface between pglisten and a driver.

pglisten finds a backend through the entry-point group ``pglisten.backends``. Its value is a subclass of
`Backend` that takes no arguments. To write a backend, implement the two classes below and run the test suite
of `pglisten.testing.contract` on it.

A backend may rely on these facts:

* One greenlet at a time calls a session's methods. Only ``fileno`` may be called at the same time.
* Host names are resolved: `ConnInfo.hostaddr` holds the numeric address to connect to. If
  `ConnInfo.is_unix` is true, ``host`` is the directory of a Unix socket.
* There is one host, and the password to use, if any. The core handles several hosts, services and password
  files; `ConnInfo.values` names their keywords.
* SQL for ``execute`` contains neither NUL nor characters that UTF-8 cannot encode.

A backend must never

* block the hub, whether the process is monkey-patched or not: `in_thread` runs work that would block, such
  as hashing a password or reading a certificate;
* change the driver's process-wide settings;
* let an exception class of the driver escape;
* write a password or a payload into an error or a log;
* catch or translate an exception that a wait raised. The application threw this exception into the greenlet,
  whatever its class is, and it belongs to the caller. `wait_ready` keeps it apart from a timeout.

A backend imports `pglisten.backend` and `pglisten.errors`, and no other module of pglisten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import ClassVar, NamedTuple, cast

from ._conninfo import ConnInfo
from ._deadline import Deadline, DeadlinePassed
from ._descriptors import OwnedDescriptor, wait_ready
from ._greenlet import let_others_run
from ._threads import Computed, in_thread

__all__ = [
    "MAX_RESULT",
    "Backend",
    "Computed",
    "ConnInfo",
    "Deadline",
    "DeadlinePassed",
    "Notification",
    "OwnedDescriptor",
    "Session",
    "in_thread",
    "let_others_run",
    "make_notifications",
    "server_text",
    "wait_ready",
]


class Notification(NamedTuple):
    """The message of one NOTIFY."""

    pid: int
    """Process id of the server process that ran the NOTIFY."""
    channel: str
    """Name of the channel, as LISTEN named it."""
    payload: str
    """``""`` if the NOTIFY had no payload."""


_new = cast(
    "Callable[[type[Notification], tuple[int, str, str]], Notification]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)


def make_notifications(fields: Iterable[tuple[int, str, str]]) -> Iterator[Notification]:
    """Make a `Notification` of each pid, channel and payload.

    This takes less than half the time of the constructor, because no Python function runs per notification.
    In a burst the difference is measurable.
    """
    return map(_new, repeat(Notification), fields)


def server_text(data: bytes) -> str:
    r"""Return the text of a server's error or notice, for people to read.

    Before ``client_encoding`` is in force, the text may be in any encoding, and the server does not say
    which. If the text is not UTF-8, the result has its ASCII characters, and ``\xd0`` and the like for the
    other bytes. If the text was cut within a character, the result has such bytes only for that character.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        good = error.start if error.reason == "unexpected end of data" else 0
        return data[:good].decode() + data[good:].decode("ascii", "backslashreplace")


MAX_RESULT = (4 * 16 + 1) << 20
"""Limit for the rows that `Session.fetch` returns, in bytes of DataRow messages: 7 for a row, 4 for a value,
and the value's text.

The longest entry of an event log fits: 16 MiB, which the conversion to UTF-8 makes at most four times longer
(PostgreSQL's MAX_CONVERSION_GROWTH)."""


class Session(ABC):
    """One established session with a server, in autocommit mode and with ``client_encoding`` UTF8."""

    pid: int
    """Process id of the server process, from BackendKeyData."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the socket's descriptor. It stays the same for the whole life of the session."""

    @abstractmethod
    def execute(self, sql: str, timeout: float | None) -> None:
        """Run one simple query and discard its results. The query may contain several statements.

        Waits cooperatively until the server is ready again. Notifications that arrive meanwhile are kept for
        the next ``receive``. Raises

        * `ServerError` if the server refused the query; the session is ready for the next query;
        * `ConnectionLost` if the query could not be completed, if it did not end within *timeout* seconds
          (``None``: no limit), or if the server ended the session (with its ``sqlstate``). The session is
          then useless, but ``receive`` still returns what had arrived.

        If the calling greenlet is killed during the call, the session can only be closed.
        """

    @abstractmethod
    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        """Run a query as `execute` does, and return the rows of its last statement.

        Returns ``[]`` if the last statement returned no rows. A value is the text that the server sent, or
        ``None`` for NULL. The query casts values to ``text`` if a driver would convert them. Waits and
        raises as `execute` does. Also raises `ConnectionLost` if the rows have more than `MAX_RESULT`
        bytes: pglisten calls this method only for its own queries, which limit their results.
        """

    @abstractmethod
    def receive(self) -> list[Notification]:
        """Return the notifications that have arrived, oldest first, without waiting.

        The list may be a part of them, so that a burst does not block the hub. An empty list means that the
        buffers of the driver, the file object and the TLS layer are empty; the caller then waits for the
        descriptor. Raises `ConnectionLost` if the session has ended, but only after all earlier notifications
        were returned. The error has the server's reason and ``sqlstate`` if the server gave them.
        """

    @abstractmethod
    def close(self) -> None:
        """Send the server a Terminate message without waiting, and close the descriptor.

        Idempotent; never raises. It does not close the number if the number now belongs to another file: see
        `OwnedDescriptor`.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Give up the connection without sending anything to the server. Idempotent; never raises.

        pglisten calls this method in the child of a fork, where the session belongs to the parent. Not a
        byte may be sent, not even by a destructor later. The descriptor's number must stay open without a
        peer, because copies of greenlets still wait for it, and an event loop aborts if it is closed. A
        later `close` closes the number.

        Between the fork and either call the process may have daemonized: it has closed all numbers and
        opened other files under them. `OwnedDescriptor` closes and diverts by these rules. A driver's own
        ``close()`` or destructor closes by number, and must never run in the child.
        """


class Backend(ABC):
    """Opens sessions with one driver."""

    name: ClassVar[str]
    """The value of ``backend=``, and the name of the entry point."""
    rank: ClassVar[int] = 100
    """If several backends are installed and the user names none, pglisten takes the one of the lowest
    rank."""

    def description(self) -> str:
        """Return the driver and its version for people, as in ``psycopg2 2.9.13, libpq 17.6``."""
        return self.name

    def check(self, conninfo: ConnInfo) -> None:  # noqa: B027 - most drivers have nothing to refuse
        """Raise `ConfigurationError` for a setting that this driver cannot honour.

        pglisten calls this once, before the first attempt to connect.
        """

    @abstractmethod
    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
        """Return an established session within *timeout* seconds (``None``: no limit). Waits cooperatively.

        Raises `ConnectionFailed`, with the server's ``sqlstate`` if the server gave one. If the call fails or
        its greenlet is killed, no descriptor stays open.
        """
