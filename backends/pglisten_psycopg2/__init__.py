"""The psycopg2 backend: libpq in asynchronous mode, with gevent doing the waiting.

A session's connection is asynchronous. It waits cooperatively in every process, whether psycopg2 was made
green or not, and changes nothing for the application's other connections. `make_green` is for these; pglisten
never calls it.
"""

from __future__ import annotations

from ._backend import Psycopg2Backend
from ._wait import make_green

__all__ = ["Psycopg2Backend", "make_green"]
