"""A PostgreSQL in a container, through testcontainers, if an engine answers."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import socket
import warnings
from collections.abc import Iterator
from urllib.parse import urlsplit

from support.servers.server import Server

IMAGE = "postgres:17-alpine"

PROBE_LIMIT = 1.0
"""Seconds for an engine to answer: testcontainers itself waits 60 for one that is mute."""


def engine_answers() -> bool:
    """Whether a container engine can be asked for containers, and testcontainers is there to ask."""
    if importlib.util.find_spec("testcontainers") is None:
        return False
    return answers(os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")


def answers(address: str, limit: float = PROBE_LIMIT) -> bool:
    """Whether an engine at this address answers within so many seconds."""
    # closing() before connecting: the socket must also be closed if there is no answer.
    with contextlib.closing(_EngineConnection(address, limit)) as engine:
        try:
            engine.request("GET", "/_ping")
            return engine.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


class _EngineConnection(http.client.HTTPConnection):
    def __init__(self, address: str, limit: float) -> None:
        url = urlsplit(address)
        super().__init__(url.hostname or "localhost", url.port or 2375, timeout=limit)
        self._path = url.path if url.scheme == "unix" else None

    def connect(self) -> None:
        if self._path is None:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextlib.contextmanager
def container_server() -> Iterator[Server]:
    """A server in a container of its own."""
    with warnings.catch_warnings():
        # Its own deprecations are none of ours, and warnings are errors here.
        warnings.simplefilter("ignore")
        from testcontainers.postgres import PostgresContainer

        container = PostgresContainer(IMAGE)
        container.start()
    try:
        server = Server(
            {
                "host": container.get_container_host_ip(),
                "port": container.get_exposed_port(5432),
                "user": container.username,
                "password": container.password,
                "dbname": container.dbname,
            },
            f"container {IMAGE}",
        )
        yield server
        server.close()
    finally:
        container.stop()
