"""How psycopg2 waits under gevent: the one loop that drives a connection, for us and for green processes."""

from __future__ import annotations

import os

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, connection, set_wait_callback

from pglisten.backend import Deadline, DeadlinePassed, OwnedDescriptor, server_text, wait_ready

__all__ = ["Forked", "leak", "make_green", "poll", "wait"]

NEVER = Deadline(None)
"""For connections of the application's, which have no timeouts."""

_leaked: list[connection] = []
"""Connections that are never finished: see `leak`."""

GRACE_SECONDS = 5.0
"""How long, in seconds, what comes without a pause is looked through after the deadline for an answer.
It should do for all that a socket's buffer holds, should the hub have been held up."""


class Forked(Exception):
    """This is a forked child's copy of what was waiting: the answer is its parent's."""

    def __init__(self) -> None:
        super().__init__("this process was forked: the connection is its parent's")


def poll(conn: connection) -> int:
    """Return what ``conn.poll()`` does. Raises psycopg2's errors, and nothing else.

    psycopg2 takes what the server or libpq says for text in the connection's encoding, and fails over it. But
    what comes before ``client_encoding`` is in force is in any: a refusal in the server's own language.
    """
    try:
        return conn.poll()
    except UnicodeDecodeError as error:
        raise psycopg2.OperationalError(server_text(error.object)) from None


def wait(conn: connection, deadline: Deadline = NEVER, *, owner: int | None = None) -> psycopg2.Error | None:
    """Drive *conn* until what it was asked to do, connecting or a query, is done.

    Returns psycopg2's error if that was the end, and raises none: what is raised may be of that class and
    thrown in from outside. After *deadline* it raises `DeadlinePassed`. Where *owner* is the process's id, a
    forked child's copy of the waiting greenlet diverts the descriptor and raises `Forked`: it would read what
    is its parent's.
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
        # The second is for who never stops talking: readable at once, the wait below never times out.
        if late or deadline.overrun() > GRACE_SECONDS:
            raise DeadlinePassed
        # The descriptor is asked for each time: while connecting, libpq makes a new socket for each try.
        # With something to write, wait for either: a server that is itself stuck, sending to us, takes
        # nothing more until we read (PostgreSQL docs, PQflush).
        descriptor = None if owner is None else OwnedDescriptor(conn.fileno())
        try:
            # If late, look once more: after the hub was held up, the answer may be there all the same.
            late = not wait_ready(conn.fileno(), deadline.remaining(), writable=state == POLL_WRITE)
        finally:
            forked = descriptor is not None and os.getpid() != owner
            if forked and descriptor is not None:
                descriptor.divert()
        if forked:
            raise Forked


def leak(conn: connection) -> None:
    """Keep *conn* as long as the process lives, so that libpq never finishes it.

    Finishing speaks in the parent's TLS session, and closes a number, whatever that leads to by now.
    """
    _leaked.append(conn)


def make_green() -> None:
    """Make every synchronous psycopg2 connection of this process wait cooperatively, as psycogreen does.

    For the application's own connections; listeners need it no more than they mind it. It is
    process-wide, has no timeouts, and psycopg2 refuses COPY and large objects afterwards
    (psycopg2 docs, "Support for coroutine libraries"). Undo it with
    ``psycopg2.extensions.set_wait_callback(None)``.
    """
    set_wait_callback(_wait_or_raise)


def _wait_or_raise(conn: connection) -> None:
    if error := wait(conn):
        raise error
