"""How psycopg2 waits under gevent: one loop drives a session's connection, and those of a green process."""

from __future__ import annotations

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE, connection, set_wait_callback

from pglisten.backend import Deadline, server_text
from pglisten_libpq.waiting import Step, drive

__all__ = ["make_green", "poll", "step", "wait"]

STEPS = {POLL_READ: Step.READ, POLL_WRITE: Step.WRITE, POLL_OK: Step.NOTHING}

NEVER = Deadline(None)
"""For the application's own connections, which have no timeouts."""


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


def step(conn: connection) -> Step | psycopg2.Error:
    """Take one step of *conn*'s connection attempt or query; return psycopg2's error if it failed."""
    try:
        state = poll(conn)
    except psycopg2.Error as error:
        return error
    return STEPS.get(state) or psycopg2.OperationalError(
        f"poll() returned {state}, and libpq does not say why"
    )


def wait(conn: connection, deadline: Deadline = NEVER, *, owner: int | None = None) -> psycopg2.Error | None:
    """Drive *conn* until its connection attempt or its query is done; see `pglisten_libpq.waiting.drive`.

    Returns psycopg2's error if the operation failed, and ``None`` if not.
    """
    return drive(lambda: step(conn), conn.fileno, deadline, owner=owner)


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
