"""How ``pglisten demo`` ends, and what it leaves: nothing."""

from __future__ import annotations

import re
import signal

import pytest

from support.fixtures.demo import Remains, Start, Stream, WebDemo, stop, the_rest, up_to

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]


@pytest.fixture
def demo(start: Start) -> WebDemo:
    return WebDemo(start("-m", "pglisten", "demo"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_while_pages_are_open(demo: WebDemo, number: signal.Signals) -> None:
    with Stream(demo) as stream:
        stream.until("state", name="connected")
        stop(demo, number)
        while stream.event()[0]:
            pass


def test_a_signal_while_the_database_is_away_leaves_nothing(demo: WebDemo) -> None:
    remains = Remains(demo.process)
    with Stream(demo) as stream:
        stream.until("state", name="connected")
        demo.post("/restart", stream.token)
        stream.until("state", name="lost")
        demo.process.send_signal(signal.SIGTERM)
        assert the_rest(demo.process)[1] == ""
    assert demo.process.returncode == 0
    remains.assert_gone()


def test_a_signal_before_the_page_is_there_leaves_nothing(start: Start) -> None:
    process = start("-m", "pglisten", "demo")
    up_to(process, "is up")
    remains = Remains(process)
    process.send_signal(signal.SIGINT)
    assert the_rest(process)[1] == ""
    assert process.returncode == 0
    remains.wait_gone()


def test_nothing_outlives_a_demo_that_is_killed(demo: WebDemo) -> None:
    remains = Remains(demo.process)
    with Stream(demo) as stream:
        stream.until("state", name="connected")
        demo.process.kill()
        demo.process.wait()
        remains.wait_gone()
    assert demo.refuses()


def test_a_web_server_that_is_killed_ends_the_demo_and_is_said(demo: WebDemo) -> None:
    remains = Remains(demo.process)
    demo.gunicorn.kill()
    assert re.search(r"pglisten: the web server has ended \(exit status -9\)", the_rest(demo.process)[1])
    assert demo.process.returncode == 1
    remains.assert_gone()


def test_a_closed_pipe_ends_it_and_leaves_nothing(demo: WebDemo) -> None:
    remains = Remains(demo.process)
    assert demo.process.stdout is not None
    assert demo.process.stderr is not None
    demo.process.stdout.close()
    assert (demo.process.wait(), demo.process.stderr.read()) == (0, "")
    remains.assert_gone()


def test_it_ends_by_itself_after_the_seconds_it_was_given(start: Start) -> None:
    demo = WebDemo(start("-m", "pglisten", "demo", "--seconds", "5", "--workers", "1"))
    remains = Remains(demo.process)
    assert len(demo.gunicorn.children()) == 1
    assert the_rest(demo.process)[1] == ""
    assert demo.process.returncode == 0
    remains.assert_gone()
