"""The interface between pglisten and a driver.

A backend is found through the entry-point group ``pglisten.backends``, whose value is a subclass of
`Backend` that takes no arguments. To write one, implement the two classes below and run the suite of
`pglisten.testing` over it.

What a backend may rely on:

* One greenlet at a time calls a session's methods; only ``fileno`` may be called beside it.
* Host names are resolved: `ConnInfo.hostaddr` holds the numeric address to connect to, unless
  `ConnInfo.is_unix` is true and ``host`` is the directory of a Unix socket.
* There is one host, and the password that is to be used if there is any. Several hosts, services and
  password files are the core's business, `ConnInfo.values` says by which keywords.
* SQL handed to ``execute`` holds neither NUL nor characters that UTF-8 cannot encode.

What it must never do: block the hub, whether the process is monkey-patched or not; change the
driver's process-wide settings; let an exception of the driver's out; write a password or a payload
into an error or a log; catch or translate an exception that a wait raised. The last was thrown into the
greenlet from outside and is its caller's, whatever its class: `wait_ready` keeps the two apart. Work that
would block, such as hashing a password or reading a certificate, goes through `in_thread`.
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
    """What one NOTIFY brought."""

    pid: int
    """Process id of the server process that sent it."""
    channel: str
    """The channel, as LISTEN named it."""
    payload: str
    """``""`` where none was given."""


_new = cast(
    "Callable[[type[Notification], tuple[int, str, str]], Notification]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)


def make_notifications(fields: Iterable[tuple[int, str, str]]) -> Iterator[Notification]:
    """Make one of each pid, channel and payload, in less than half the time that the constructor takes.

    In a burst it is noticed: no function written in Python runs for each.
    """
    return map(_new, repeat(Notification), fields)


def server_text(data: bytes) -> str:
    r"""Return what the server says in an error or a notice, for people to read.

    Before ``client_encoding`` is in force the text may be in any encoding, and nothing tells which. If it is
    not UTF-8, the result is its ASCII with ``\xd0`` and the like for the other bytes: nothing is lost, and
    nothing is guessed. If it was cut within a character, that is so for this character alone.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        good = error.start if error.reason == "unexpected end of data" else 0
        return data[:good].decode() + data[good:].decode("ascii", "backslashreplace")


MAX_RESULT = 1 << 20
"""How long the rows that `Session.fetch` returns may be, in bytes of DataRow messages: 7 for a row, 4 for a
value, and the value's text."""


class Session(ABC):
    """One established session with a server: autocommit, ``client_encoding`` UTF8."""

    pid: int
    """Process id of the server process, as its BackendKeyData said."""

    @abstractmethod
    def fileno(self) -> int:
        """Return the socket's descriptor, the same for the whole life of the session."""

    @abstractmethod
    def execute(self, sql: str, timeout: float | None) -> None:
        """Run one simple query, which may hold several statements, and discard its results.

        Waits cooperatively until the server is ready again. Notifications that come along are kept
        for the next ``receive``. Raises

        * `ServerError` if the server refused; the session is ready for the next query;
        * `ConnectionLost` if the query could not be completed, *timeout* seconds (``None``: for
          ever) passed without its end, or the server ended the session (with its ``sqlstate``).
          The session is useless then, but what had arrived can still be received.

        A greenlet killed in it leaves a session that can only be closed.
        """

    @abstractmethod
    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        """Run a query as `execute` does, and return the rows of its last statement.

        ``[]`` if that returns none. A value is what the server wrote, ``None`` for NULL; whoever asks
        casts to ``text`` what drivers would convert. Waits and raises as `execute` does, and also
        `ConnectionLost` if the rows come to more than `MAX_RESULT` bytes: it is for the library's own
        questions to the server, whose answers are short.
        """

    @abstractmethod
    def receive(self) -> list[Notification]:
        """Return the notifications that have arrived, oldest first, without waiting.

        It may return a part, so that a burst does not hold up the hub, but an empty list means that
        nothing is left in the driver's, the file object's or the TLS layer's buffers: the caller then
        waits for the descriptor. Raises `ConnectionLost`, with the server's reason and ``sqlstate``
        if it gave them, when the session has ended, after all that arrived before was returned.
        """

    @abstractmethod
    def close(self) -> None:
        """End the session politely, without waiting. Idempotent; never raises.

        It closes no number that leads elsewhere by now: see `OwnedDescriptor`.
        """

    @abstractmethod
    def abandon(self) -> None:
        """Let go of the connection and say nothing to the server. Idempotent; never raises.

        For the child of a fork, where the session is the parent's: not a byte may be sent, not even by a
        destructor later. The descriptor's number must stay open and lead nowhere: copies of greenlets that
        waited for it still do, and an event loop aborts on a closed one. A `close` afterwards closes the
        number. Between the fork and either call the process may have daemonized: it has closed all numbers
        and opened others in their place. `OwnedDescriptor` closes and diverts by these rules; a driver's own
        ``close()`` or destructor, which closes by number, must never run in the child.
        """


class Backend(ABC):
    """A driver, as pglisten sees it."""

    name: ClassVar[str]
    """What users write for ``backend=``; the entry point's name."""
    rank: ClassVar[int] = 100
    """Where several are installed and the user names none, the lowest is taken."""

    def description(self) -> str:
        """Return the driver and its version, for people: ``psycopg2 2.9.13, libpq 17.6``."""
        return self.name

    def check(self, conninfo: ConnInfo) -> None:  # noqa: B027 - most drivers have nothing to refuse
        """Raise `ConfigurationError` for what this driver cannot do. Called once, before any attempt."""

    @abstractmethod
    def connect(self, conninfo: ConnInfo, timeout: float | None) -> Session:
        """Establish a session, cooperatively, in *timeout* seconds at most (``None``: no limit).

        Raises `ConnectionFailed`, with the server's ``sqlstate`` if it gave one. Whatever ends it, a
        kill included, leaves no descriptor open.
        """
