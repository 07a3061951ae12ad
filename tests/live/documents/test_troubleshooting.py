"""docs/troubleshooting.md: its queries run, and the errors in its headings are the server's."""

from __future__ import annotations

import re

import psycopg2
import pytest

from pglisten import EventLog
from pglisten._ownership import OTHER_THREAD
from support.fixtures.examples import ROOT, Database

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
HEADINGS = "\n".join(re.findall(r"^## .*", PAGE, re.MULTILINE))
SQL = re.findall(r"^```sql\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def backend_name() -> str:
    """It is about the server, not about a backend."""
    return "psycopg2"


def test_every_query_runs(database: Database) -> None:
    statements = [each for block in SQL for each in block.split(";") if each.strip()]
    assert len(statements) == 3
    for statement in statements:
        database.query(statement.replace("%", "%%"))


def test_the_errors_in_the_headings_are_the_servers(database: Database) -> None:
    database.query(EventLog.sql("guarded"))
    try:
        database.query("CREATE ROLE stranger")
        provoked = {
            "payload string too long": "SELECT pg_notify('a', repeat('x', 8000))",
            "permission denied for table": "SET ROLE stranger; INSERT INTO guarded (channel) VALUES ('a')",
        }
        for text, statement in provoked.items():
            assert f"`{text}`" in HEADINGS
            with pytest.raises(psycopg2.Error, match=text):
                database.query(statement)
            database.query("RESET ROLE")
    finally:
        database.query("DROP ROLE stranger")
    assert re.findall(r"`(called from .*?)`", PAGE)[0] in OTHER_THREAD
