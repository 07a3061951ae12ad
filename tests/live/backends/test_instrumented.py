"""An APM agent may replace a driver's public entry points: the backends neither call nor inherit from them.

tests/apm runs under real agents. These tests need no agent, and hold for unknown ones, too.
"""

from __future__ import annotations

from support.fixtures.listeners import succeeds
from support.fixtures.servers import Server

PROGRAM = """
import sys
import pg8000, pg8000.dbapi, pg8000.native, psycopg, psycopg2
import pglisten

def replace():
    def patched(*arguments, **options):
        raise AssertionError("called")

    for module, names in {
        psycopg2: ["connect"],
        psycopg: ["connect", "Connection", "Cursor"],
        psycopg.Connection: ["connect"],
        pg8000: ["connect"],
        pg8000.dbapi: ["connect", "Connection"],
        pg8000.native: ["Connection"],
    }.items():
        for name in names:
            setattr(module, name, patched)

name, moment, dsn = sys.argv[1:]
if moment == "before":
    replace()
backend = pglisten.load_backend(name)
if moment == "after":
    replace()
with pglisten.Listener(dsn, backend=backend) as listener:
    listener.listen("c", timeout=20)
    listener.notify("c", "x", timeout=20)
    assert listener.get(timeout=20).payload == "x"
print("well")
"""


def test_a_backend_works_with_entry_points_replaced_before_its_import(
    server: Server, backend_name: str
) -> None:
    succeeds(PROGRAM, backend_name, "before", server.dsn())


def test_a_backend_works_with_entry_points_replaced_later(server: Server, backend_name: str) -> None:
    succeeds(PROGRAM, backend_name, "after", server.dsn())
