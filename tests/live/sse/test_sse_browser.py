"""Event streams in a real browser."""

from __future__ import annotations

import pytest

from support.fixtures.browser import Browser
from support.fixtures.gunicorn import StartGunicorn
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]

FOLLOW = """
page.goto(origin + "/")
page.evaluate('''() => {
    window.heard = [];
    window.loads = 0;
    const source = new EventSource("/events?channel=orders");
    for (const type of ["open", "error", "message", "orders", "gap"])
        source.addEventListener(type, (event) => heard.push([type, (event.data ?? "-").split(" ").at(-1)]));
    source.addEventListener("open", () => loads++);
    source.addEventListener("gap", (event) => { if (event.data !== "reconnected") loads++; });
}''')
"""

RESUME = """
page.goto(origin + "/")
page.evaluate('''() => {
    window.heard = [];
    const source = new EventSource("/log?channel=orders&after=0");
    for (const type of ["orders", "gap"])
        source.addEventListener(type, (event) => heard.push([type, event.data + " " + event.lastEventId]));
}''')
"""

HEARD = """
wait_until(lambda: page.evaluate("heard.length") >= count)
result = page.evaluate("heard")
"""


def test_each_event_arrives_at_once_and_there_are_no_other_events(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], browser: Browser
) -> None:
    gunicorn = start_gunicorn("-w", "1", *gunicorn_mode, HEARTBEAT="0.05")
    browser.run(FOLLOW, origin=f"http://127.0.0.1:{gunicorn.port}")
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
    browser.run(FOLLOW, origin=f"http://127.0.0.1:{gunicorn.port}")
    assert browser.run(HEARD, count=1) == [["open", "-"]]
    gunicorn.workers()[0].kill()
    back = [["open", "-"], ["error", "-"], ["open", "-"], ["gap", "reconnected"]]
    assert browser.run(HEARD, count=len(back)) == back
    server.notify("orders", "after")
    assert browser.run(HEARD, count=len(back) + 1) == [*back, ["orders", "after"]]
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
    browser.run(RESUME, origin=f"http://127.0.0.1:{gunicorn.port}")
    assert browser.run(HEARD, count=1) == [["orders", "before the page 1"]]
    gunicorn.workers()[0].kill()
    append("while it was away")
    append("too")
    assert browser.run(HEARD, count=3)[1:] == [["orders", "while it was away 2"], ["orders", "too 3"]]
