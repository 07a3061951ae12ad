"""The programs that are measured, their names in the tables, and how to start them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from bench import golang

LIBPQ = "libpq"
"""The program in Go, which is not a module of ``bench.peers``."""


@dataclass(frozen=True)
class Case:
    """One way to receive notifications."""

    label: str
    program: str
    needs: str = ""
    """The package to import; empty for the program in Go."""
    options: tuple[str, ...] = ()
    share: float = 1.0
    """The fraction of a burst that this case runs: a full burst would take too long."""

    def missing(self, go: Path | None) -> str:
        """Return what is not installed; empty if nothing is missing. *go* is the program in Go."""
        if self.program == LIBPQ:
            return "" if go else golang.missing() or "a compiler that takes libpq.go"
        return "" if importlib.util.find_spec(self.needs) else self.needs

    def command(self, task: str, uri: str, go: Path | None, **options: object) -> list[str]:
        """Return the command to run, without empty options. *go* is the program in Go."""
        words = [str(go)] if self.program == LIBPQ else [sys.executable, "-m", f"bench.peers.{self.program}"]
        given = [
            word
            for name, value in options.items()
            if value
            for word in ((f"--{name}",) if value is True else (f"--{name}", str(value)))
        ]
        return [*words, task, uri, *given, *self.options]


COUNTING = Case("psycopg2 loop, counting", "psycopg2_loop", "psycopg2", ("--style", "count"))
PSYCOPG2 = Case("psycopg2 loop", "psycopg2_loop", "psycopg2")
GEVENT = Case("psycopg2 loop under gevent", "gevent_loop", "psycopg2")
PG8000 = Case("pg8000 loop", "pg8000_loop", "pg8000")
PQ = Case("psycopg.pq loop", "psycopg3_pq", "psycopg")
PSYCOPG3 = Case("psycopg 3 notifies()", "psycopg3_generator", "psycopg")
ASYNCPG = Case("asyncpg add_listener()", "asyncpg_callback", "asyncpg")
# It calls its log function twice for each notification, even if logging is off.
PGNOTIFY = Case("pgnotify", "pgnotify_generator", "pgnotify", share=0.05)
LIB_PQ = Case("lib/pq Listener (Go)", LIBPQ)
OURS_2 = Case("pglisten, psycopg2", "pglisten_listener", "psycopg2", ("--backend", "psycopg2"))
OURS_3 = Case("pglisten, psycopg", "pglisten_listener", "psycopg", ("--backend", "psycopg"))
OURS_8 = Case("pglisten, pg8000", "pglisten_listener", "pg8000", ("--backend", "pg8000"))
MUTE_2 = replace(OURS_2, label=f"{OURS_2.label}, no heartbeat", options=(*OURS_2.options, "--mute"))
MUTE_3 = replace(OURS_3, label=f"{OURS_3.label}, no heartbeat", options=(*OURS_3.options, "--mute"))
MUTE_8 = replace(OURS_8, label=f"{OURS_8.label}, no heartbeat", options=(*OURS_8.options, "--mute"))
TAKING_2 = replace(OURS_2, label=f"{OURS_2.label}, taking", options=(*OURS_2.options, "--style", "take"))
TAKING_3 = replace(OURS_3, label=f"{OURS_3.label}, taking", options=(*OURS_3.options, "--style", "take"))
TAKING_8 = replace(OURS_8, label=f"{OURS_8.label}, taking", options=(*OURS_8.options, "--style", "take"))
