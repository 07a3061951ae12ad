"""Every fenced Python block of the README, CONTRIBUTING.md and the docs runs, as it stands.

A block that ends by itself must exit with status 0. A comment before a block that runs forever says what the
test does and which lines the block prints: ``<!-- test: notify CHANNEL PAYLOAD -> line, line -->``. Lines
before the first that has the payload come before the test sends. With ``gap`` instead of ``notify``, the
server ends the block's session.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import gevent
import pytest

from support.fixtures.servers import Server

# Each test starts processes: run them on one Python.
pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.any_backend]

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(
    r"(?:<!-- test: (?P<test>.*?) -->\n)?^```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL
)


def _blocks() -> Iterator[object]:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, match in enumerate(BLOCK.finditer(path.read_text()), 1):
            yield pytest.param(match["code"], match["test"], id=f"{path.name}-{number}")


def _line(stream: IO[str]) -> str:
    return str(gevent.get_hub().threadpool.apply(stream.readline)).rstrip("\n")


def _wait_listening(server: Server, but: set[int]) -> list[int]:
    """Wait until the program's session is idle after its LISTEN, which the server has then acknowledged.

    A program that sends to itself has sent its NOTIFY after that.
    """
    with gevent.Timeout(30):
        while True:
            rows = server.query(
                "select pid from pg_stat_activity where application_name = 'document' and state = 'idle' "
                "and query ~ '^(LISTEN|NOTIFY)|pg_listening_channels'"
            )
            pids = [pid for (pid,) in rows if pid not in but]
            if pids:
                return pids
            gevent.idle()


@pytest.mark.parametrize(("code", "test"), list(_blocks()))
def test_a_block_runs_as_it_stands(server: Server, backend_name: str, code: str, test: str | None) -> None:
    environment = server.variables(PGLISTEN_BACKEND=backend_name, PGAPPNAME="document")
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    try:
        if test is None:
            assert gevent.get_hub().threadpool.apply(program.wait, (50,)) == 0
            return
        action, _, expected = test.partition(" -> ")
        lines = expected.split(", ")
        pids = _wait_listening(server, set())
        if action == "gap":
            assert _line(program.stdout) == lines.pop(0)
            server.notify("table_changed", "7")
            assert _line(program.stdout) == lines.pop(0)
            server.terminate(pids[0])
        else:
            _, channel, payload = action.split()
            # What comes before is the program's own, and comes without the test.
            while lines and payload not in lines[0]:
                assert _line(program.stdout) == lines.pop(0)
            server.notify(channel, payload)
        assert [_line(program.stdout) for _ in lines] == lines
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def test_the_complete_program_of_the_readme_sends_and_receives_in_fifteen_lines_of_code() -> None:
    match = BLOCK.search((ROOT / "README.md").read_text())
    assert match is not None
    assert {"notify", "listen"} <= set(re.findall(r"\w+", match["code"]))
    assert len([line for line in match["code"].splitlines() if line]) <= 15


def test_the_defaults_in_the_overview_are_the_real_ones() -> None:
    import inspect

    import pglisten

    text = (ROOT / "docs" / "overview.md").read_text()
    defaults = {name: p.default for name, p in inspect.signature(pglisten.Listener).parameters.items()}
    rows = re.findall(r"^\| ((?:`\w+` ?)+)\| ([^|]*)\|", text, re.MULTILINE)
    checked = 0
    for names, values in rows:
        for name, value in zip(re.findall(r"`(\w+)`", names), values.split(","), strict=False):
            if name in defaults and value.strip():
                default = defaults[name]
                real = f"{default:g}" if isinstance(default, float) else str(default)
                assert value.strip().strip('"') == real, name
                checked += 1
    assert checked == 8
