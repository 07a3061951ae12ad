"""docs/quickstart.md, typed as it stands: a real browser gets an event, and the next one after an absence."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pglisten.testing.postgres.processes import free_port
from support.fixtures.browser import Browser
from support.fixtures.examples import ROOT, Database
from support.fixtures.programs import LIMIT

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(180)]

PAGE = (ROOT / "docs" / "quickstart.md").read_text()
FILES = dict(re.findall(r"^`([\w.]+)`: [^`]*```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
BLOCKS = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS: list[str] = [line for block in BLOCKS for line in block.splitlines()]

Start = Callable[[str], subprocess.Popen[str]]


def _command(start: str) -> str:
    """Return the first command of the page that begins so."""
    return next(command for command in COMMANDS if command.startswith(start))


@pytest.fixture
def backend_name() -> str:
    """The page installs this one."""
    return "psycopg2"


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a command of the page where its files are."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    environment = database.variables(PYTHONUNBUFFERED="1")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with contextlib.ExitStack() as stack:

        def start(command: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                shlex.split(command), cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


def _run(start: Start, command: str) -> str:
    process = start(command)
    said, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, command
    return said


def test_a_browser_gets_what_was_sent_before_and_after_gunicorn_was_away(
    start: Start, browser: Browser
) -> None:
    assert set(FILES) == {"consumer.py", "app.py", "gunicorn.conf.py"}
    _run(start, _command("pglisten doctor"))
    _run(start, _command("pglisten log create"))
    _run(start, _command("pglisten log append"))
    follow = start(_command("pglisten log follow"))
    assert follow.stdout is not None
    assert follow.stdout.readline().endswith("\torders\t17\n")

    port = free_port()
    serve = f"{_command('gunicorn')} --bind 127.0.0.1:{port} --no-control-socket"
    send = _command("curl").replace("8000", str(port))
    gunicorn = start(serve)
    browser.run(
        """
        def reached():
            try:
                return page.goto(url)
            except Exception:  # gunicorn has not begun to listen
                return None

        wait_until(reached)
        wait_until(lambda: page.evaluate("source.readyState") == 1)
        """,
        url=f"http://127.0.0.1:{port}/",
    )
    _run(start, send)
    browser.run("expect(page.locator('li')).to_have_text(['18'])")

    gunicorn.terminate()
    assert gunicorn.wait(LIMIT) == 0
    _run(start, [command for command in COMMANDS if command.startswith("pglisten log append")][1])
    start(serve)
    browser.run("expect(page.locator('li')).to_have_text(['18', '19'])")
