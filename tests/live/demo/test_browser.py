"""The page of ``pglisten demo`` in a real browser."""

from __future__ import annotations

import signal

import pytest

from support.fixtures.browser import Browser
from support.fixtures.demo import Remains, Start, WebDemo, stop, the_rest

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(180)]

HOSTILE = """<script>window.hacked=1</script><img src=x onerror="window.hacked=1">"""

# The functions that the pieces of program below use.
TOOLS = """
def state(name, on=None):
    expect((on or page).locator("#state")).to_have_attribute("data-state", name)

def enter(url, on):
    on.goto(url)
    state("connected", on)

def send(text, on=None):
    (on or page).get_by_label("Message", exact=True).fill(text)
    (on or page).get_by_role("button", name="Send").click()

def row(text, on=None):
    return (on or page).locator("#rows tr", has_text=text)

def marks(text, on=None):
    return [mark.inner_text().lower() for mark in row(text, on).locator(".mark .word").all()]
"""

# The text whose contrast with its background is the least, and that contrast.
LEAST_CONTRAST = """
const light = (color) => {
  const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3)
    .map((part) => part / 255)
    .map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  const color = getComputedStyle(element).backgroundColor;
  return /rgba\\(.*, 0\\)/.test(color) ? ground(element.parentElement) : color;
};
const contrast = (color, element) => {
  const [darker, lighter] = [light(color), light(ground(element))].sort((a, b) => a - b);
  return (lighter + 0.05) / (darker + 0.05);
};
const texts = [...document.querySelectorAll("body *")].filter((element) =>
  element.checkVisibility() && !element.closest(".visually-hidden, :disabled") &&
  [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
const found = texts.map((element) => [contrast(getComputedStyle(element).color, element), element.outerHTML]);
const field = document.getElementById("text");
found.push([contrast(getComputedStyle(field, "::placeholder").color, field), "placeholder"]);
return found.sort((a, b) => a[0] - b[0])[0];
"""


@pytest.fixture
def demo(start: Start, browser: Browser) -> WebDemo:
    """A demo; after the browser, so that there is none if there is no browser."""
    browser.run(TOOLS)
    return WebDemo(start("-m", "pglisten", "demo"))


def finish(demo: WebDemo, browser: Browser) -> None:
    """End the demo while a page is open; neither page nor demo reports an error."""
    assert browser.run("result = errors") == []
    remains = Remains(demo.process)
    demo.process.send_signal(signal.SIGTERM)
    assert (the_rest(demo.process)[1], demo.process.returncode) == ("", 0)
    remains.assert_gone()
    browser.run("""state("down")""")


def test_a_loss_is_struck_out_and_its_gap_marked_while_the_log_has_it(
    demo: WebDemo, browser: Browser
) -> None:
    browser.run("enter(url, page)", url=demo.url)
    # By the keyboard alone, and as text whatever it is.
    browser.run(
        """
        page.get_by_label("Message", exact=True).focus()
        page.keyboard.type(text)
        page.keyboard.press("Enter")
        expect(row(text).locator(".mark .word")).to_have_text(["heard", "read"])
        page.get_by_role("button", name="Cut the workers off").click()
        state("lost")
        expect(page.locator("#countdown")).to_have_text("5")
        assert page.get_by_role("status").filter(has_text="attempt").count() == 0
        send("Can you hear me?")
        expect(row("hear me").locator(".mark .word")).to_have_text(["not heard yet", "not read yet"])
        expect(page.locator("#kept")).to_have_text("1 kept")
        expect(page.locator("#countdown")).to_have_text("2")
        expect(page.locator(".worker")).to_have_count(page.locator(".away .worker").count())
        """,
        text=HOSTILE,
    )
    browser.screenshot("cut-off")
    result = browser.run(
        """
        state("back")
        expect(page.locator("#state-text")).to_contain_text("3 messages went unheard")
        send("There you are")
        expect(row("There you are").locator(".mark .word")).to_have_text(["heard", "read"])
        result = {
            "struck": [part.inner_text() for part in page.locator("#rows del").all()],
            "numbers": page.locator("#rows th").all_inner_texts(),
            "order": [each.get_attribute("class") for each in page.locator("#rows tr").all()],
            "marks": marks("Can you hear me?"),
            "gap": page.locator("#rows .gap .left").inner_text(),
            "tallies": page.locator(".tally").all_inner_texts(),
            "hacked": page.evaluate("typeof window.hacked"),
            "markup": page.locator("#rows script, #rows img").count(),
        }
        """
    )
    assert {text.removeprefix("you").removeprefix("the shop") for text in result["struck"]} == {
        "Can you hear me?",
        "Order 1",
        "Order 2",
    }
    assert result["numbers"] == ["1", "2", "3", "4", "", "5"]
    assert [kind.split()[0] for kind in result["order"]] == ["message"] * 4 + ["gap", "message"]
    assert result["marks"] == ["lost", "caught up"]
    assert result["gap"] == "gap: 3 lost here"
    assert result["tallies"] == ["2 of 5\n3 lost", "5 of 5\n3 caught up"] or result["tallies"] == [
        "2 of 53 lost",
        "5 of 53 caught up",
    ]
    assert (result["hacked"], result["markup"]) == ("undefined", 0)
    _looks_well(browser)
    finish(demo, browser)
    browser.run("""expect(page.locator("#state-text")).to_contain_text("The demo has ended, or ")""")


def _looks_well(browser: Browser) -> None:
    """Look at what is there in both schemes and several widths."""
    browser.run('send("long " * 300)')
    browser.run("""expect(row("long long").locator(".unfold").first).to_be_visible()""")
    browser.run("""page.get_by_text("The code behind this").click()""")
    assert "book.gap()" in browser.run("""result = page.locator("#listings").inner_text()""")
    for scheme in ("light", "dark"):
        browser.run("page.emulate_media(color_scheme=scheme)", scheme=scheme)
        for width in (1280, 390, 320):
            browser.run("page.set_viewport_size({'width': width, 'height': 844})", width=width)
            browser.screenshot(f"{scheme}-{width}")
            assert browser.run("result = page.evaluate('document.documentElement.scrollWidth')") == width
            # What arrives is above the fold, and the lines are long enough to be seen.
            bottom = "document.getElementById('pages').getBoundingClientRect().bottom"
            assert width == 320 or browser.run(f'result = page.evaluate("scrollY + {bottom}")') < 844
            shortest = (
                "Math.min(...[...document.querySelectorAll('.line')].map((line) => line.getTotalLength()))"
            )
            assert browser.run(f'result = page.evaluate("{shortest}")') > 20
        contrast, text = browser.run("result = page.evaluate(f'() => {{{script}}}')", script=LEAST_CONTRAST)
        assert contrast >= 4.5, text


def test_six_windows_of_one_browser_work_and_a_seventh_loads(
    start: Start, demo: WebDemo, browser: Browser
) -> None:
    browser.run(
        """
        windows = [page] + [context.new_page() for _ in range(6)]
        for number, each in enumerate(windows, 1):
            enter(url, each)
            expect(page.locator(".window")).to_have_count(number)
        send("from the seventh", windows[6])
        for each in windows:
            expect(row("from the seventh", each).locator(".mark .word")).to_have_text(["heard", "read"])
        assert windows[6].locator("#sharing").is_visible() and not page.locator("#sharing").is_visible()
        assert not page.locator("#alone").is_visible()
        """,
        url=demo.url,
    )
    # Whatever windows have the streams: when they are closed, others take over, and their logs go on.
    browser.run(
        """
        page.close()
        windows[1].close()
        page = windows[2]
        send("the streams have changed hands", windows[6])
        for each in windows[2:]:
            expect(row("have changed hands", each).locator(".right .mark")).to_have_count(1)
        expect(page.locator(".window")).to_have_count(5)
        """
    )
    # The workers are replaced, as for a new version of the application.
    browser.run(
        """
        page.get_by_role("button", name="Replace the workers").click()
        state("down")
        state("back")
        expect(page.locator(".window")).to_have_count(5)
        gaps = page.locator("#rows .gap").count()
        send("to the new workers")
        expect(row("to the new workers").locator(".mark .word")).to_have_text(["heard", "read"])
        assert page.locator("#rows .gap").count() == gaps
        """
    )
    finish(demo, browser)
    # Another demo at this address: its token is another one, and its ledgers begin anew.
    second = WebDemo(start("-m", "pglisten", "demo", "--web-port", str(demo.port)))
    browser.run(
        """
        state("connected")
        expect(row("to the new workers")).to_have_count(0)
        send("still there")
        expect(row("still there").locator(".mark .word")).to_have_text(["heard", "read"])
        """
    )
    stop(second)


def test_a_message_that_cannot_be_sent_is_kept_and_its_error_goes_with_the_outage(
    demo: WebDemo, browser: Browser
) -> None:
    browser.run(
        """
        page.emulate_media(reduced_motion="reduce")
        # As at an address that the browser does not trust: no lock, so no stream is shared.
        context.add_init_script("Object.defineProperty(Navigator.prototype, 'locks', { value: undefined })")
        enter(url, page)
        expect(page.locator("#alone")).to_contain_text("With six of them all its connections are in use")
        page.evaluate('''() => {
            window.moved = 0;
            new MutationObserver(() => (moved += document.querySelectorAll(".dot").length))
                .observe(document.getElementById("lines"), { childList: true });
        }''')
        page.get_by_role("button", name="Restart PostgreSQL").click()
        state("lost")
        """,
        url=demo.url,
    )
    browser.run(
        """
        while not page.locator("#sent.bad").is_visible():
            send("too early")
            page.wait_for_timeout(200)
        expect(page.locator("#sent")).to_have_text("Not sent: PostgreSQL cannot be reached now")
        expect(page.get_by_label("Message", exact=True)).to_have_value("too early")
        state("back")
        expect(page.locator("#sent")).to_have_text("")
        page.get_by_role("button", name="Send").click()
        expect(row("too early").locator(".mark .word")).to_have_text(["heard", "read"])
        expect(row("the shop").locator(".left .word")).to_have_text("lost")
        # Nothing moves for a reader who wants it so.
        assert page.evaluate("moved") == 0
        name = "(each) => getComputedStyle(each, '::after').animationName"
        assert page.locator("#rows del").first.evaluate(name) == "none"
        """
    )
    finish(demo, browser)
