"""How psycopg2 waits under gevent: one loop drives a session's connection, and those of a green process."""

from __future__ import annotations

import os

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, connection, set_wait_callback

from pglisten.backend import Deadline, DeadlinePassed, OwnedDescriptor, server_text, wait_ready

__all__ = ["Forked", "leak", "make_green", "poll", "wait"]

NEVER = Deadline(None)
"""For the application's own connections, which have no timeouts."""

_leaked: list[connection] = []
"""Connections that libpq must never finish: see `leak`."""

GRACE_SECONDS = 5.0
"""How long, in seconds, `wait` still reads for an answer after the deadline while data arrives without a
pause. If the hub was blocked, the answer may stand behind all that the socket's buffer holds."""


class Forked(Exception):
    """A forked child's copy of the waiting greenlet has run. The answer belongs to the parent process."""

    def __init__(self) -> None:
        super().__init__("this process was forked: the connection is its parent's")


def poll(conn: connection) -> int:
    """Return the result of ``conn.poll()``. Raises psycopg2's errors and no others.

    psycopg2 decodes messages of the server and of libpq with the connection's encoding. Before
    ``client_encoding`` is in force, a message may be in any encoding, such as a refusal in the server's own
    language. psycopg2 then raises ``UnicodeDecodeError``.
    """
    try:
        return conn.poll()
    except UnicodeDecodeError as error:
        raise psycopg2.OperationalError(server_text(error.object)) from None


def wait(conn: connection, deadline: Deadline = NEVER, *, owner: int | None = None) -> psycopg2.Error | None:
    """Drive *conn* until its connection attempt or its query is done.

    Returns psycopg2's error if the operation failed, and ``None`` if not. Errors are returned because an
    error of the same class may be thrown in from outside, and only that one is raised. Raises
    `DeadlinePassed` after *deadline*. If *owner* is given, it is the id of this process. A forked child's
    copy of the waiting greenlet then diverts the descriptor and raises `Forked`, because it would read data
    of the parent.
    """
    late = False
    while True:
        try:
            state = poll(conn)
        except psycopg2.Error as error:
            return error
        if state == POLL_OK:
            return None
        if state not in {POLL_READ, POLL_WRITE}:
            return psycopg2.OperationalError(f"poll() returned {state}, and libpq does not say why")
        # The overrun is for a server that never stops sending: the wait below then never times out.
        if late or deadline.overrun() > GRACE_SECONDS:
            raise DeadlinePassed
        # Ask for the descriptor each time: while connecting, libpq makes a new socket for each try.
        # With data to write, wait for reading as well: a server that is blocked because it sends to us
        # reads nothing before we do (PostgreSQL docs, PQflush).
        descriptor = None if owner is None else OwnedDescriptor(conn.fileno())
        try:
            # If late, poll once more: the answer may have arrived while the hub was blocked.
            late = not wait_ready(conn.fileno(), deadline.remaining(), writable=state == POLL_WRITE)
        finally:
            forked = descriptor is not None and os.getpid() != owner
            if forked and descriptor is not None:
                descriptor.divert()
        if forked:
            raise Forked


def leak(conn: connection) -> None:
    """Keep *conn* until the process ends, so that libpq never finishes it.

    To finish it, libpq would send in the parent's TLS session and close a number that may belong to another
    file by now.
    """
    _leaked.append(conn)


def make_green() -> None:
    """Make every synchronous psycopg2 connection of this process wait cooperatively, as psycogreen does.

    This is for the application's own connections. Listeners work with it and without it. It holds for the
    whole process and has no timeouts, and psycopg2 refuses COPY and large objects afterwards (psycopg2 docs,
    "Support for coroutine libraries"). Undo it with ``psycopg2.extensions.set_wait_callback(None)``.
    """
    set_wait_callback(_wait_or_raise)


def _wait_or_raise(conn: connection) -> None:
    if error := wait(conn):
        raise error
