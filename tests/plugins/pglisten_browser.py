"""A real browser: Debian's chromium, driven by Playwright.

Playwright's synchronous interface runs greenlets and an event loop of its own, so it has a process of its
own. It is handed pieces of program, in which ``page`` is a page, ``expect`` Playwright's function of that
name, and ``wait_until`` waits for a condition.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pglisten_environment import leave_out

OPTIONS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # It talks to this machine and to nobody else.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)

DRIVER = """
import json, os, sys, time, traceback
from playwright.sync_api import expect, sync_playwright

PATIENCE = 20

def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        page.wait_for_timeout(20)

expect.set_options(timeout=1000 * PATIENCE)
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=sys.argv[1], headless=True, args=sys.argv[2:])
    context = browser.new_context(viewport={"width": 1100, "height": 800}, color_scheme="light")
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    names = {"page": page, "context": context, "expect": expect, "errors": errors, "wait_until": wait_until}
    print(json.dumps({"result": None}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        names |= asked["with"] | {"result": None}
        try:
            exec(asked["do"], names)
            answer = {"result": names["result"]}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
    browser.close()
"""


class Browser:
    """The process that drives it."""

    def __init__(self, chromium: str, folder: Path, screenshots: Path) -> None:
        self.screenshots = screenshots
        # Chromium refuses its sandbox as root.
        options = [*OPTIONS, "--no-sandbox"] if os.geteuid() == 0 else OPTIONS
        self._process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, chromium, *options],
            # Its profile, which is new and empty, and whatever else it writes.
            env=os.environ | {"HOME": str(folder), "TMPDIR": str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def run(self, program: str, **values: object) -> Any:
        """Run a piece of *program*, with *values* for names; return what it leaves as ``result``."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": textwrap.dedent(program), "with": values}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def screenshot(self, name: str) -> None:
        """Write the whole page where a person can look at it."""
        self.run(
            "page.screenshot(path=path, full_page=True, animations='disabled')",
            path=str(self.screenshots / f"{name}.png"),
        )

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=20)
        self._process.kill()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise EOFError(self._process.communicate()[1])
        answer = json.loads(line)
        if "error" in answer:
            pytest.fail(re.sub("\x1b.*?m", "", answer["error"]))
        return answer["result"]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """A browser with one page; ``PGLISTEN_TEST_SCREENSHOTS`` names the folder for what it looks like."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        leave_out("browser", "there is no browser: apt-get install chromium")
    if importlib.util.find_spec("playwright") is None:
        leave_out("browser", "playwright, which drives the browser, is not installed")
    screenshots = Path(os.environ.get("PGLISTEN_TEST_SCREENSHOTS") or tmp_path / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    # Not below tmp_path: its Unix socket's path would be too long.
    with tempfile.TemporaryDirectory(prefix="pglisten-", dir="/tmp") as folder:
        try:
            made = Browser(chromium, Path(folder), screenshots.absolute())
        except EOFError as error:
            # Playwright's own program, or the browser, lacks a library.
            leave_out("browser", f"the browser does not start: {error}")
        yield made
        made.close()
