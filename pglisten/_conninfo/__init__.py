"""From a connection string to settings: what libpq would connect with. Pure: no gevent, socket or clock."""

from __future__ import annotations

from .conninfo import ConnInfo

__all__ = ["ConnInfo"]
