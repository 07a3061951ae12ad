"""A private PostgreSQL server for tests and demonstrations: no Docker, no root, nothing left behind.

* `PrivatePostgres` starts a server from programs on this machine, or from the wheel in the extra ``demo``. It
  removes the server and its files even if this process is killed.
* `JanitorProcess` owns several servers, which then share the work of ``initdb``.

All functions wait cooperatively, in monkey-patched processes and in others.
"""

from __future__ import annotations

from .binaries import Kind
from .server import JanitorProcess, PrivatePostgres, PrivatePostgresError

__all__ = ["JanitorProcess", "Kind", "PrivatePostgres", "PrivatePostgresError"]
