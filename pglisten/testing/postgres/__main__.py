"""``python -m pglisten.testing.postgres`` runs a private server until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from urllib.parse import urlsplit

import gevent
from gevent.event import Event

from .server import PrivatePostgres, PrivatePostgresError

__all__ = ["main"]

USAGE = """\
usage: python -m pglisten.testing.postgres

It takes no arguments. Ctrl-C ends it."""


def main() -> int:
    """Start it, print an ``export`` line for other shells, and wait. Return the exit status."""
    if len(sys.argv) > 1:
        asked = sys.argv[1:] in (["-h"], ["--help"])
        _tell(USAGE, 1 if asked else 2)
        return 0 if asked else 2
    stopped = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stopped.set)
    try:
        with PrivatePostgres() as server:
            at = urlsplit(server.url())
            where = f"PGHOST={at.hostname} PGPORT={at.port} PGDATABASE={at.path[1:]}"
            # A text stream may be closed, and fails again when the process ends.
            os.write(1, f"export {where} PGUSER={at.username} PGPASSWORD={at.password}\n".encode())
            _tell(f"PostgreSQL {server.version}, until Ctrl-C: then its data is removed")
            # Without a timer, the event loop would have nothing to wait for.
            while not stopped.wait(3600):
                pass
    except PrivatePostgresError as error:
        _tell(str(error))
        return 1
    except OSError as error:
        _tell(f"standard output cannot be written: {error.strerror}")
        return 1
    _tell("stopped")
    return 0


def _tell(text: str, descriptor: int = 2) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, f"{text}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
