"""Event streams in a real browser, with the scripts of docs/sse.md."""

from __future__ import annotations

import re

import pytest

from support.fixtures.browser import Browser
from support.fixtures.examples import ROOT
from support.fixtures.gunicorn import StartGunicorn
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]

PAGE = (ROOT / "docs" / "sse.md").read_text(encoding="utf-8")
NOTIFIED, RESUMING = re.findall(r"^```js\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)

FOLLOW = """
page.goto(origin + "/")
page.evaluate('''() => {
    window.heard = [];
    window.loads = 0;
    window.loadEverything = () => loads++;
    window.line = {};
    const source = new EventSource("/events?channel=orders");
    for (const type of ["open", "error", "message", "orders", "gap"])
        source.addEventListener(type, (event) => heard.push([type, (event.data ?? "-").split(" ").at(-1)]));
}''')
page.add_script_tag(content=script)
wait_until(lambda: page.evaluate("loads") == 1)
"""

RESUME = """
page.goto(origin + "/")
page.evaluate('''() => {
    document.body.innerHTML = "<ul data-after=0></ul>";
    window.heard = [];
    window.show = (data) => heard.push(["orders", data + " " + after]);
}''')
page.add_script_tag(content=script.replace("/events?", "/log?channel=orders&"))
"""

HEARD = """
wait_until(lambda: page.evaluate("heard.length") >= count)
result = page.evaluate("heard")
"""


def test_each_event_arrives_at_once_and_there_are_no_other_events(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], browser: Browser
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode, HEARTBEAT="0.05")
    browser.run(FOLLOW, script=NOTIFIED, origin=f"http://127.0.0.1:{gunicorn.port}")
    expected = [["open", "-"]]
    assert browser.run(HEARD, count=1) == expected
    for number in range(3):
        server.notify("orders", str(number))
        expected.append(["orders", str(number)])
        assert browser.run(HEARD, count=len(expected)) == expected


def test_a_browser_whose_worker_died_before_any_event_gets_a_gap_and_loads_once(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], browser: Browser
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    browser.run(FOLLOW, script=NOTIFIED, origin=f"http://127.0.0.1:{gunicorn.port}")
    assert browser.run(HEARD, count=1) == [["open", "-"]]
    gunicorn.workers()[0].kill()
    back = [["open", "-"], ["error", "-"], ["open", "-"], ["gap", "reconnected"]]
    assert browser.run(HEARD, count=len(back)) == back
    browser.run("wait_until(lambda: page.evaluate('loads') == 2)")  # The page's own stream is back too.
    server.notify("orders", "after")
    assert browser.run(HEARD, count=len(back) + 1) == [*back, ["orders", "after"]]
    browser.run("wait_until(lambda: page.evaluate('`${line.textContent}`').endswith('after'))")
    assert browser.run("result = page.evaluate('loads')") == 2  # on the first opening, and on the second


def test_a_browser_whose_worker_died_resumes(
    start_gunicorn: StartGunicorn,
    server: Server,
    streams_log: None,
    gunicorn_mode: list[str],
    browser: Browser,
) -> None:
    def append(text: str) -> None:
        server.query("INSERT INTO streams.streams (channel, payload) VALUES ('orders', %s)", text)

    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode)
    append("before the page")
    browser.run(RESUME, script=RESUMING, origin=f"http://127.0.0.1:{gunicorn.port}")
    assert browser.run(HEARD, count=1) == [["orders", "before the page 1"]]
    gunicorn.workers()[0].kill()
    append("while it was away")
    append("too")
    assert browser.run(HEARD, count=3)[1:] == [["orders", "while it was away 2"], ["orders", "too 3"]]
