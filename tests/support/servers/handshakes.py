"""A server that does PostgreSQL's TLS handshake and no more, and both drivers as its clients."""

from __future__ import annotations

import contextlib
import ssl
import threading
from pathlib import Path
from socket import create_server, socket
from types import TracebackType
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from pglisten.errors import ConnectionFailed
from support.fixtures.pg8000_sessions import connect_to
from support.servers.wrong_server import error

REACHED = "the handshake is done"
"""What it refuses a client with that accepted its certificate."""


class HandshakeServer:
    """Takes one client after the other; one that accepts its certificate is refused with `REACHED`.

    In a thread, because libpq blocks the one that it is called in.
    """

    def __init__(self, folder: Path) -> None:
        self.names: list[str | None] = []
        """What each client sent by SNI since the last `use`, ``None`` if it sent none."""
        self._pem = folder / "handshake.pem"
        self._pem.touch(mode=0o600)
        self._listening = create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._context: ssl.SSLContext | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def use(self, pem: str, *, record_names: bool = True) -> None:
        """Show this certificate, with its key, from now on.

        Names that are not ASCII cannot be recorded: ``ssl`` breaks the handshake off.
        """
        self._pem.write_text(pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pem)
        if record_names:
            context.sni_callback = lambda _tls, name, _context: self.names.append(name)
        self.names.clear()
        self._context = context

    def _serve(self) -> None:
        while True:
            client, _ = self._listening.accept()
            with client:
                if self._context is None:
                    return
                client.settimeout(20)
                with contextlib.suppress(OSError):
                    self._shake_hands(client, self._context)

    def _shake_hands(self, client: socket, context: ssl.SSLContext) -> None:
        client.recv(8, 0)
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as tls:
            if tls.recv(8192):
                tls.sendall(error("FATAL", "28000", REACHED))

    def __enter__(self) -> HandshakeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._context = None
        with socket() as last:
            last.connect(("127.0.0.1", self.port))
        self._thread.join(20)
        self._listening.close()


class Clients:
    """Both drivers, asked whether they accept the server's certificate for a host."""

    def __init__(self, server: HandshakeServer, authority: str, folder: Path) -> None:
        """Trust *authority*, a certificate in PEM."""
        self.server = server
        self.ca = folder / "ca.crt"
        self.ca.write_text(authority)

    def dsn(self, host: str, **keywords: str) -> str:
        place: dict[str, Any] = {"host": host, "hostaddr": "127.0.0.1", "port": self.server.port}
        checks: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": self.ca, "gssencmode": "disable"}
        made: str = make_dsn(user="app", dbname="app", **place, **checks | keywords)
        return made

    def libpq(self, host: str, **keywords: str) -> str:
        """Return why libpq refuses the certificate, ``""`` if it accepts it."""
        with pytest.raises(psycopg2.OperationalError) as caught:
            psycopg2.connect(self.dsn(host, **keywords))
        return "" if REACHED in str(caught.value) else str(caught.value)

    def pg8000(self, host: str, **keywords: str) -> str:
        with pytest.raises(ConnectionFailed) as caught:
            connect_to(self.dsn(host, **keywords))
        return "" if REACHED in str(caught.value) else str(caught.value)

    def agree(self, pem: str, host: str, **keywords: str) -> str:
        """Assert that both say the same of *host*; return libpq's reason against it."""
        self.server.use(pem, record_names=host.isascii())
        theirs, ours = self.libpq(host, **keywords), self.pg8000(host, **keywords)
        assert bool(ours) is bool(theirs), f"{host!r}: libpq says {theirs!r}, pg8000 {ours!r}"
        text = theirs.partition(" failed: ")[2].strip()
        if text.startswith("server certificate for") and text.isascii() and "'" not in text:
            assert text in ours.replace("'", '"')
        return theirs
