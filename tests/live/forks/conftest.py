from __future__ import annotations

import pytest

from support.fixtures.servers import Server
from support.fixtures.tls import TlsServer


@pytest.fixture(params=["tcp", "tls"])
def dsn(request: pytest.FixtureRequest, server: Server, tls_server: TlsServer) -> str:
    """Return a DSN of the main server, or of one that is reached over TLS."""
    return server.dsn() if request.param == "tcp" else tls_server.dsn(sslmode="require")
