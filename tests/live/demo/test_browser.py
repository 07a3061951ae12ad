"""The page of ``pglisten demo`` in a real browser."""

from __future__ import annotations

import signal
import subprocess

import pytest

from support.fixtures.browser import Browser
from support.fixtures.demo import Remains, Start, Stream, WebDemo, the_rest

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(180)]

HOSTILE = """<script>window.hacked=1</script><img src=x onerror="window.hacked=1">"""

OPEN = """
page.goto(url)
expect(page.locator("#state-word")).to_have_text("Connected")
result = page.locator("#worker").inner_text()
"""

SEND = """
page.get_by_label("Your name").fill(name)
page.get_by_label("Channel", exact=True).select_option(label=channel)
page.get_by_label("Text").fill(text)
page.get_by_role("button", name="Send").click()
"""

SEE = """
note = page.locator("#log .note").first
expect(note.locator(".text")).to_have_text(text)
result = [note.locator(part).inner_text() for part in (".sender", ".channel", ".route")]
"""


@pytest.fixture
def demo(start: Start, browser: Browser) -> WebDemo:
    """A demo; after the browser, so that there is none if there is no browser."""
    return WebDemo(start("-m", "pglisten", "demo"))


def finish(demo: WebDemo, browser: Browser) -> None:
    """End the demo while the page is open; neither page nor demo reports an error."""
    assert browser.run("result = errors") == []
    remains = Remains(demo.process)
    demo.process.send_signal(signal.SIGTERM)
    assert (the_rest(demo.process)[1], demo.process.returncode) == ("", 0)
    remains.assert_gone()
    browser.run("""expect(page.locator("#state-word")).to_have_text("Connection lost")""")


def test_what_is_sent_arrives_as_text_whatever_it_is(demo: WebDemo, browser: Browser) -> None:
    worker = browser.run(OPEN, url=demo.url)
    # Another client sends, through any worker.
    with Stream(demo) as other:
        assert demo.post("/send", other.token, channel="alerts", name="Bob", text="hello")[0] == 200
    sender, channel, route = browser.run(SEE, text="hello")
    assert (sender, channel) == ("Bob", "alerts")
    assert f"came through worker {worker} (p" in route
    assert "sent by " in route

    browser.run(SEND, name="<b>Ada</b>", channel="chat", text=HOSTILE)
    assert browser.run(SEE, text=HOSTILE)[:2] == ["<b>Ada</b>", "chat"]
    browser.run("""expect(page.locator("#sent")).to_contain_text("Sent to chat, by worker ")""")
    assert browser.run("result = page.evaluate('typeof window.hacked')") == "undefined"
    assert browser.run("result = page.locator('#log script, #log img, #log b').count()") == 0
    browser.screenshot("hostile")

    browser.run(
        """
        page.get_by_role("radio", name="alerts").check()
        expect(page.locator("#log .note:visible")).to_have_count(1)
        expect(page.locator("#filter label", has_text="all")).to_contain_text("2")
        page.get_by_role("radio", name="all").check()
        expect(page.locator("#log .note:visible")).to_have_count(2)
        """
    )
    finish(demo, browser)


def test_a_restart_of_the_database_is_seen_as_loss_gap_and_return(demo: WebDemo, browser: Browser) -> None:
    browser.run(OPEN, url=demo.url)
    browser.run(
        """
        page.get_by_role("button", name="Restart the database").click()
        expect(page.locator("#state-word")).to_have_text("Connection lost")
        """
    )
    with demo.frozen():
        browser.run(SEND, name="Ada", channel="chat", text="too early")
        browser.run(
            """
            expect(page.locator("#sent")).to_contain_text("Not sent: ")
            expect(page.locator("#detail")).to_contain_text("to come back failed")
            """
        )
        browser.screenshot("lost")
    browser.run(
        """
        expect(page.locator("#state")).to_contain_text("Back")
        expect(page.locator("#state")).to_contain_text("Something may have been missed")
        expect(page.locator("#log .gap")).to_have_count(1)
        """
    )
    browser.run(SEND, name="Ada", channel="chat", text="after the restart")
    browser.run(SEE, text="after the restart")
    browser.screenshot("back")
    kinds = browser.run(
        """
        expect(page.locator("#state-word")).to_have_text("Connected")
        result = [row.get_attribute("class") for row in reversed(page.locator("#log > li").all())]
        """
    )
    markers = [kind for kind in kinds if kind.startswith("marker")]
    assert markers == ["marker lost", "marker back", "marker gap"]
    assert kinds[-1] == "note"
    finish(demo, browser)


def test_a_reload_of_the_workers_is_survived(demo: WebDemo, browser: Browser) -> None:
    worker = browser.run(OPEN, url=demo.url)
    demo.gunicorn.send_signal(signal.SIGHUP)
    after = browser.run(
        """
        expect(page.locator("#worker")).not_to_have_text(worker)
        expect(page.locator("#state-word")).to_have_text("Back")
        expect(page.locator("#log .gap")).to_have_count(1)
        result = page.locator("#worker").inner_text()
        """,
        worker=worker,
    )
    browser.run(SEND, name="Ada", channel="orders", text="to the new workers")
    assert f"worker {after}" in browser.run(SEE, text="to the new workers")[2]
    # And with the page's own button.
    browser.run(
        """
        page.get_by_role("button", name="Replace the workers").click()
        expect(page.locator("#worker")).not_to_have_text(worker)
        expect(page.locator("#state-word")).to_have_text("Back")
        """,
        worker=after,
    )
    finish(demo, browser)


def test_it_can_be_read_on_a_phone_and_at_night(demo: WebDemo, browser: Browser) -> None:
    browser.run(OPEN, url=demo.url)
    browser.run(SEND, name="Ada", channel="chat", text=f"{'long ' * 30}{'x' * 300}")
    # One of each thing that can be on the page.
    browser.run(
        """
        expect(page.locator("#log .note")).to_have_count(1)
        page.get_by_role("button", name="Restart the database").click()
        expect(page.locator("#log .gap")).to_have_count(1)
        """
    )
    for scheme in ("light", "dark"):
        browser.run("page.emulate_media(color_scheme=scheme)", scheme=scheme)
        for width in (1100, 375, 320):
            browser.run("page.set_viewport_size({'width': width, 'height': 740})", width=width)
            browser.screenshot(f"{scheme}-{width}")
            assert browser.run("result = page.evaluate('document.documentElement.scrollWidth')") == width
        background = browser.run("result = page.evaluate('getComputedStyle(document.body).backgroundColor')")
        red = int(background.removeprefix("rgb(").partition(",")[0])
        assert (red < 64) == (scheme == "dark")
    finish(demo, browser)


def test_it_can_be_used_with_the_keyboard_alone(demo: WebDemo, browser: Browser) -> None:
    browser.run(OPEN, url=demo.url)
    names = browser.run(
        """
        result = []
        for _ in range(7):
            page.keyboard.press("Tab")
            result.append(page.evaluate(
                "document.activeElement.labels?.[0]?.innerText ?? document.activeElement.innerText"
            ).split()[0])
        """
    )
    assert names == ["Restart", "Replace", "Your", "Channel", "Text", "Send", "all"]
    browser.run(
        """
        page.get_by_label("Text").focus()
        page.keyboard.type("typed")
        page.keyboard.press("Enter")
        """
    )
    assert browser.run(SEE, text="typed")[0] == "anonymous"
    finish(demo, browser)


def test_a_page_comes_back_to_a_demo_that_was_started_anew(start: Start, browser: Browser) -> None:
    first = WebDemo(start("-m", "pglisten", "demo"))
    browser.run(OPEN, url=first.url)
    first.process.send_signal(signal.SIGTERM)
    the_rest(first.process)
    browser.run("""expect(page.locator("#state-word")).to_have_text("Connection lost")""")
    second = _again(start, first)
    browser.run("""expect(page.locator("#state-word")).to_have_text("Back")""")
    # Its token is another one, and the page has it.
    browser.run(SEND, name="Ada", channel="chat", text="still there")
    browser.run(SEE, text="still there")
    finish(second, browser)


def _again(start: Start, demo: WebDemo) -> WebDemo:
    process: subprocess.Popen[str] = start("-m", "pglisten", "demo", "--web-port", str(demo.port))
    return WebDemo(process)
