"""The psycopg backend: psycopg 3's wrapper of libpq, with gevent doing the waiting.

It uses ``psycopg.pq`` alone, in whichever implementation psycopg has chosen (C, binary or Python). No code of
psycopg's waits, so it is cooperative in every process, monkey-patched or not.
"""

from __future__ import annotations

from ._backend import PsycopgBackend

__all__ = ["PsycopgBackend"]
