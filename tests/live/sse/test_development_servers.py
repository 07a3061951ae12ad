"""``flask run`` and ``manage.py runserver``: the documented commands serve streams, others log a remedy."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import gevent
import pytest

from pglisten._ownership import OTHER_THREAD
from pglisten.testing.postgres.processes import free_port
from support.fixtures.examples import ROOT, Browser
from support.fixtures.programs import LIMIT
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs]

PAGE = (ROOT / "docs" / "dev-servers.md").read_text()

FLASK: str = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]

URLS = """
from django.http import StreamingHttpResponse
from django.urls import path
import pglisten
from pglisten import sse

broadcaster = pglisten.Broadcaster()

def events(request):
    stream = sse.stream(broadcaster.subscribe("orders", timeout=20))
    return StreamingHttpResponse(stream, headers=dict(sse.HEADERS))

urlpatterns = [path("events", events)]
"""

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line

os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""

PATCHED: str = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)[0]
SETTINGS = 'DEBUG = True\nROOT_URLCONF = "urls"\nSECRET_KEY = "x"\nUSE_TZ = True\n'

# Each command with and without the reloader.
FLASK_OPTIONS = [[], ["--debug"]]
DJANGO_OPTIONS = [["--noreload"], []]

Start: TypeAlias = Callable[..., tuple[Browser, Path]]


def _wait_for(text: str, log: Path) -> None:
    """Wait until the log has *text*, which may come after the response."""
    with gevent.Timeout(LIMIT, False):  # type: ignore[arg-type]
        while text not in log.read_text():
            gevent.sleep(0.02)
        return
    pytest.fail(f"the log has no {text!r}: {log.read_text()}")


@pytest.fixture
def start(server: Server, backend_name: str, tmp_path: Path) -> Iterator[Start]:
    """Return a function that starts a command and returns a browser for its server, and its log."""
    log = tmp_path / "log"
    with contextlib.ExitStack() as stack:

        def start(port: int, *command: str) -> tuple[Browser, Path]:
            variables = server.variables(PGLISTEN_BACKEND=backend_name, PYTHONUNBUFFERED="1")
            with log.open("w") as output:
                process = subprocess.Popen(
                    command,
                    cwd=tmp_path,
                    env=variables,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # A reloader starts a child: end both as one group.
                    start_new_session=True,
                )
            stack.enter_context(process)
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
            _wait_for(f"http://127.0.0.1:{port}", log)
            return Browser(port), log

        yield start


def _flask(tmp_path: Path, start: Start, *options: str, patched: bool) -> tuple[Browser, Path]:
    (tmp_path / "app.py").write_text(FLASK)
    flask = str(Path(sys.executable).with_name("flask"))
    documented = "python -m gevent.monkey $(which flask) --app app run"
    assert f"\n{documented}\n" in PAGE
    words = documented.replace("$(which flask)", flask).split()
    command = [sys.executable, *words[1:]] if patched else words[words.index(flask) :]
    port = free_port()
    return start(port, *command, "--port", str(port), *options)


def _django(tmp_path: Path, start: Start, *options: str, patched: bool) -> tuple[Browser, Path]:
    (tmp_path / "urls.py").write_text(URLS)
    (tmp_path / "settings.py").write_text(SETTINGS)
    (tmp_path / "manage.py").write_text((PATCHED if patched else "") + MANAGE)
    port = free_port()
    return start(port, sys.executable, "manage.py", "runserver", f"127.0.0.1:{port}", *options)


CASES = [
    *(pytest.param(_flask, options, id=f"flask{''.join(options)}") for options in FLASK_OPTIONS),
    *(pytest.param(_django, options, id=f"django{''.join(options)}") for options in DJANGO_OPTIONS),
]


@pytest.mark.parametrize(("framework", "options"), CASES)
def test_the_documented_commands_serve_streams(
    framework: Callable[..., tuple[Browser, Path]],
    options: list[str],
    tmp_path: Path,
    start: Start,
    server: Server,
) -> None:
    browser, _ = framework(tmp_path, start, *options, patched=True)
    with browser.events("/events") as first, browser.events("/events") as second:
        assert (first.status, second.status) == (200, 200)
        for number in range(2):
            server.notify("orders", str(number))
            assert first.next() == second.next() == ("orders", str(number))


@pytest.mark.parametrize(("framework", "options"), CASES)
def test_the_usual_commands_give_an_error_that_names_the_remedy(
    framework: Callable[..., tuple[Browser, Path]], options: list[str], tmp_path: Path, start: Start
) -> None:
    browser, log = framework(tmp_path, start, *options, patched=False)
    assert browser.get("/events")[0] == 500
    _wait_for(OTHER_THREAD, log)


def test_the_error_names_the_documented_commands() -> None:
    for text in ("python -m gevent.monkey $(which flask)", "gunicorn -k gevent", "monkey.patch_all()"):
        assert text in OTHER_THREAD
    assert "monkey.patch_all()" in PATCHED
    assert "called from another OS thread than the one it was made in" in PAGE
