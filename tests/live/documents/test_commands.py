"""Commands and statements of the pages on the command line, event logs and Socket.IO run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

from support.fixtures.examples import ROOT, Database
from support.fixtures.programs import LIMIT

pytestmark = [pytest.mark.slow, pytest.mark.programs]

Shell = Callable[[str], "subprocess.Popen[str]"]


def _blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def backend_name() -> str:
    """It is about the command line, not about a backend."""
    return "psycopg2"


@pytest.fixture
def shell(database: Database) -> Shell:
    """Return a function that starts bash with a text."""
    environment = database.variables(PYTHONUNBUFFERED="1")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    def start(text: str) -> subprocess.Popen[str]:
        return subprocess.Popen(["bash", "-ec", text], env=environment, stdout=subprocess.PIPE, text=True)

    return start


def _said(process: subprocess.Popen[str]) -> str:
    said, _ = gevent.get_hub().threadpool.apply(process.communicate, kwds={"timeout": LIMIT})
    assert process.returncode == 0
    return str(said)


def test_a_script_waits_for_a_notification(shell: Shell, database: Database) -> None:
    waits, sends = _blocks("command-line.md", "sh")
    _said(shell(sends))
    waiting = shell(f'{waits}\necho "<$version>"')
    database.listeners(1)
    database.notify("deployed", "17")
    assert _said(waiting) == "<17>\n"


def test_a_log_is_made_filled_followed_and_granted_to_others(shell: Shell, database: Database) -> None:
    *makes, follows = _blocks("eventlog.md", "sh")[0].splitlines()
    _said(shell("\n".join(makes)))
    with shell(f"exec {follows}") as following:
        try:
            assert following.stdout is not None
            line = gevent.get_hub().threadpool.apply(following.stdout.readline)
            assert line.endswith("\torders\tnumber 17\n")
        finally:
            following.kill()
    (grants,) = _blocks("eventlog.md", "sql")
    roles = ("writer", "reader", "consumer")
    try:
        database.query(";".join(f"CREATE ROLE {role}" for role in roles))
        database.query(grants)
        database.query("SET ROLE writer; INSERT INTO events (channel, payload) VALUES ('orders', '18')")
        database.query("SET ROLE reader")
        assert database.query("SELECT payload FROM events_log WHERE position > 1") == [("18",)]
    finally:
        database.query("RESET ROLE")
        database.query(";".join(f"DROP OWNED BY {role}; DROP ROLE {role}" for role in roles))


def test_a_statement_emits_to_clients_of_socket_io(shell: Shell, database: Database) -> None:
    _, makes = _blocks("socketio.md", "sh")[0].splitlines()
    _said(shell(makes))
    (emits,) = _blocks("socketio.md", "sql")
    database.query(emits.replace("%", "%%"))
    ((channel, payload),) = database.query("SELECT channel, payload FROM socketio_log")
    assert (channel, json.loads(payload)["room"]) == ("socketio", "user-7")
