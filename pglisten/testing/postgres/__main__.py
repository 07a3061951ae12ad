"""``python -m pglisten.testing.postgres`` runs a private server until Ctrl-C."""

from __future__ import annotations

import signal
import sys
from urllib.parse import urlsplit

from .server import PrivatePostgres, PrivatePostgresError

__all__ = ["main"]


def main() -> int:
    """Start it, print an ``export`` line for other shells, and wait. Return the exit status."""
    try:
        with PrivatePostgres() as server:
            at = urlsplit(server.url())
            where = f"PGHOST={at.hostname} PGPORT={at.port} PGDATABASE={at.path[1:]}"
            sys.stdout.write(f"export {where} PGUSER={at.username} PGPASSWORD={at.password}\n")
            sys.stdout.flush()
            _tell(f"PostgreSQL {server.version}, until Ctrl-C: then its data is removed")
            signal.pause()
    except PrivatePostgresError as error:
        _tell(error)
        return 1
    except KeyboardInterrupt:
        _tell("stopped")
    return 0


def _tell(text: object) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
