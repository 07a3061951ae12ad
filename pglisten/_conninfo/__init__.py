"""From a connection string to the settings that libpq would use. Pure: no gevent, socket or clock."""

from __future__ import annotations

from .conninfo import ConnInfo

__all__ = ["ConnInfo"]
