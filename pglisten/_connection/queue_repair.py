"""LISTEN on a server whose notification queue begins with a transaction that it has forgotten.

PostgreSQL before the minor releases of February 2026 refuses each LISTEN then. It accepts LISTEN again after
the beginning of the queue was trimmed, which a query of the queue's usage does.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from .._sql import TRIM_QUEUE
from ..errors import ServerError

__all__ = ["listen_with_repair", "log_repair"]

logger = logging.getLogger("pglisten.connection")

STATUS_LOST = "58P01"
"""``could not access status of transaction`` (undefined_file)."""


def listen_with_repair(
    execute: Callable[[str], object], sql: str, *, on_repair: Callable[[ServerError], object]
) -> None:
    """Run *sql*, a LISTEN, with *execute*; if the server's queue is broken, trim it and run *sql* once more.

    *on_repair* is called with the first refusal before the queue is trimmed. Raises `ServerError` for any
    other refusal and for a second one. A server that refuses to trim the queue also refuses the LISTEN.
    """
    try:
        execute(sql)
    except ServerError as refusal:
        if refusal.sqlstate != STATUS_LOST:
            raise
        on_repair(refusal)
        with contextlib.suppress(ServerError):
            execute(TRIM_QUEUE)
        execute(sql)


def log_repair(refusal: ServerError) -> None:
    """Log that the queue is trimmed because of *refusal*."""
    logger.warning(
        "the notification queue begins with a transaction that the server has forgotten, trimming it: %s",
        refusal,
    )
