"""One attempt to connect: its limit, and its errors for the caller."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from pglisten.backend import ConnInfo, Deadline, DeadlinePassed
from pglisten.errors import ConnectionFailed

from .reasons import explain
from .session import LibpqSession
from .settings import hint
from .waiting import Forked

__all__ = ["Refused", "attempt"]

logger = logging.getLogger("pglisten.libpq")

Made = TypeVar("Made", bound=LibpqSession)


class Refused(NamedTuple):
    """Why there is no session: libpq's text, and the driver's error if there is one."""

    text: str
    cause: Exception | None = None


def attempt(
    conninfo: ConnInfo,
    timeout: float | None,
    establish: Callable[[Deadline], Made | Refused | OSError],
) -> Made:
    """Return the session that *establish* makes within *timeout* seconds (``None``: no limit).

    *establish* returns errors. What it raises was thrown in from outside during a wait, and is the caller's.
    """
    place = conninfo.description
    try:
        made = establish(Deadline(timeout))
    except DeadlinePassed:
        raise ConnectionFailed(f"{place}: no answer within {timeout:g} s") from None
    except Forked as error:
        raise ConnectionFailed(f"{place}: {error}") from None
    if isinstance(made, OSError):
        raise ConnectionFailed(f"{place}: {made.strerror or made}") from made
    if isinstance(made, Refused):
        message, sqlstate = explain(made.text)
        # Without its traceback: the driver's frames hold the password.
        cause = made.cause and made.cause.with_traceback(None)
        raise ConnectionFailed(f"{place}: {message}{hint(message, conninfo)}", sqlstate=sqlstate) from cause
    if made.server_encoding == "SQL_ASCII":
        logger.warning(
            "%s: the database has no encoding (SQL_ASCII): the server ends a listener's session for "
            "each payload that is not UTF-8",
            place,
        )
    return made
