"""For tests: of applications, without a server, and of backends, with one.

* `FakeServer` and `FakeBackend`: a server in memory, for the tests of a program that listens::

      server = FakeServer()
      listener = pglisten.Listener(backend=FakeBackend(server))

* `Proxy`: a TCP proxy that loses the network.
* `pglisten.testing.postgres`: a real server of the tests' own.
* `pglisten.testing.plugin`: pytest fixtures for both servers (needs pytest).
* `pglisten.testing.contract`: what every backend promises, as tests to inherit (needs pytest).
"""

from __future__ import annotations

from ._fake import FakeBackend
from ._fake_server import FakeServer
from ._proxy import BOTH, DOWN, UP, Proxy

__all__ = ["BOTH", "DOWN", "UP", "FakeBackend", "FakeServer", "Proxy"]
