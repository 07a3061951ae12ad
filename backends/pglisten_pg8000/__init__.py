"""pglisten's backend for pg8000. Importing it without pg8000 is an `ImportError`."""

from __future__ import annotations

from ._backend import Pg8000Backend

__all__ = ["Pg8000Backend"]
