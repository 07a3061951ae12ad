"""A server as tests see it, wherever it comes from."""

from __future__ import annotations

import os
import shlex
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pglisten._conninfo.dsn import keyword_string
from pglisten.testing.postgres.server import PrivatePostgres
from support.servers.control import APPLICATION, Control


class Server:
    """Connection strings for a running server, and what tests ask it beside the code under test."""

    def __init__(self, keywords: dict[str, object], description: str) -> None:
        self.keywords = keywords
        self.description = description
        self.control = Control(keywords)

    def __repr__(self) -> str:
        return f"<Server {self.description}>"

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens, for a proxy."""
        host, port = str(self.keywords["host"]), int(str(self.keywords["port"]))
        return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)

    def dsn(self, **keywords: object) -> str:
        """A connection string, key=value; keywords add, replace, or with None leave out."""
        return keyword_string(self.keywords | keywords)

    def variables(self, **changes: str) -> dict[str, str]:
        """An environment in which libpq's variables lead here, and nothing else of ours is set."""
        names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "DATABASE"}
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PGLISTEN_"))}
        leading = {f"PG{names[key]}": str(value) for key, value in self.keywords.items() if key in names}
        return {**ours, **leading, **changes}

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Run SQL over a connection of the tests' own; %s stands for an argument."""
        return self.control.query(sql, *arguments)

    def notify(self, channel: str, payload: str = "") -> None:
        self.query("SELECT pg_notify(%s, %s)", channel, payload)

    def pids(self, application_name: str | None = None) -> list[int]:
        """The server processes of client sessions, the tests' own apart."""
        rows = self.query(
            "SELECT pid, application_name FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND datname = current_database() ORDER BY backend_start"
        )
        return [pid for pid, name in rows if name != APPLICATION and application_name in (None, name)]

    def sessions(self, application_name: str | None = None) -> int:
        return len(self.pids(application_name))

    def terminate(self, pid: int) -> bool:
        """End a session as an administrator does (57P01); whether there was one."""
        return bool(self.query("SELECT pg_terminate_backend(%s)", pid)[0][0])

    @property
    def version(self) -> str:
        return str(self.query("SHOW server_version")[0][0])

    @property
    def has_ssl(self) -> bool:
        """Whether it takes TLS connections as it is configured."""
        return bool(self.query("SHOW ssl")[0][0] == "on")

    def close(self) -> None:
        self.control.close()


class PrivateServer(Server):
    """A server that may be stopped, killed, frozen and started again on the same port."""

    def __init__(self, postgres: PrivatePostgres) -> None:
        self.postgres = postgres
        description = f"PostgreSQL {postgres.version} from {postgres.origin}, port {postgres.port}"
        super().__init__(keywords_of(postgres.dsn()), description)
        self.start = postgres.start
        self.stop = postgres.stop
        self.kill = postgres.kill
        self.freeze = postgres.freeze
        self.thaw = postgres.thaw
        self.restart = postgres.restart
        self.log = postgres.log
        self.port = postgres.port
        self.socket_directory = postgres.socket_directory

    @property
    def running(self) -> bool:
        return self.postgres.running

    def close(self) -> None:
        # Frozen, it would not answer the end of the control connection.
        self.postgres.close()
        super().close()


def keywords_of(dsn: str) -> dict[str, object]:
    """The keywords of a connection string; host, port, user and dbname are always there."""
    if dsn.startswith(("postgresql://", "postgres://")):
        url = urlsplit(dsn)
        given: dict[str, object] = {
            "host": unquote(url.hostname or ""),
            "port": url.port,
            "user": unquote(url.username or ""),
            "password": unquote(url.password or ""),
            "dbname": unquote(url.path.lstrip("/")),
            **dict(parse_qsl(url.query)),
        }
    else:
        given = {**dict(word.split("=", 1) for word in shlex.split(dsn))}
    given = {name: value for name, value in given.items() if value not in (None, "")}
    keywords = {"host": "localhost", "port": "5432", "user": "postgres"} | given
    return {"dbname": keywords["user"]} | keywords
