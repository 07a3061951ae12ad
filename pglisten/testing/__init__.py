"""Servers and fixtures for tests of applications and of backends.

* `FakeServer` and `FakeBackend`: a server in memory, for the tests of a program that listens::

      server = FakeServer()
      listener = pglisten.Listener(backend=FakeBackend(server))

* `Proxy`: a TCP proxy that delays, holds, drops and cuts what passes through it.
* `pglisten.testing.postgres`: a private PostgreSQL server.
* `pglisten.testing.plugin`: pytest fixtures for both servers (needs pytest).
* `pglisten.testing.contract`: the promises of a backend, as tests to inherit (needs pytest).
"""

from __future__ import annotations

from ._fake import FakeBackend
from ._fake_server import FakeServer
from ._proxy import BOTH, DOWN, UP, Proxy

__all__ = ["BOTH", "DOWN", "UP", "FakeBackend", "FakeServer", "Proxy"]
