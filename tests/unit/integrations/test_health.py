"""The health of a process: which state is red, and what a probe is answered."""

from __future__ import annotations

import json
from typing import Any

import gevent
import pytest

from pglisten import Broadcaster, ConfigurationError, health
from pglisten.testing import FakeServer
from support.timeouts import TIMEOUT

LATE = 0.01
"""Seconds after which a test's answer is red."""


def ask(application: Any, method: str = "GET") -> tuple[str, dict[str, str], bytes]:
    """Return status, headers and body of an answer."""
    began: list[Any] = []
    body = b"".join(application({"REQUEST_METHOD": method}, lambda *arguments: began.extend(arguments)))
    return began[0], dict(began[1]), body


def report(application: Any) -> dict[str, Any]:
    status, _, body = ask(application)
    assert status == "200 OK"
    answer: dict[str, Any] = json.loads(body)
    return answer


def wait_state(broadcaster: Broadcaster, state: str, after: float = LATE) -> None:
    with gevent.Timeout(TIMEOUT):
        while health.check(broadcaster, after=after).state != state:
            gevent.sleep(0.001)


def test_each_state_has_its_time_and_only_away_is_red(server: FakeServer, broadcaster: Broadcaster) -> None:
    assert health.check(broadcaster) == health.Health("idle", 0.0)
    server.stop()
    broadcaster.start()
    assert health.check(broadcaster).state == "idle"
    call = gevent.spawn(broadcaster.subscribe, "orders", timeout=TIMEOUT)
    wait_state(broadcaster, "connecting", after=60)
    wait_state(broadcaster, "away")
    first = health.check(broadcaster, after=LATE)
    assert first.red
    gevent.sleep(0.001)
    assert health.check(broadcaster).seconds > first.seconds >= LATE
    assert broadcaster.stats().failed_attempts > 0
    server.start()
    call.get(timeout=TIMEOUT)
    assert health.check(broadcaster) == health.Health("connected", 0.0)
    # A loss begins anew, whenever the connection was made.
    gevent.sleep(2 * LATE)
    server.stop()
    wait_state(broadcaster, "connecting", after=60)
    assert health.check(broadcaster).seconds < first.seconds + LATE
    wait_state(broadcaster, "away")
    broadcaster.close()
    assert health.check(broadcaster) == health.Health("closed", 0.0)


def test_it_reports_red_and_fails_only_if_asked_to(server: FakeServer, broadcaster: Broadcaster) -> None:
    reports = health.app(broadcaster, after=LATE)
    fails = health.app(broadcaster, after=LATE, fail_after=LATE)
    assert report(reports)["status"] == report(fails)["status"] == "green"
    server.stop()
    gevent.spawn(broadcaster.wait_connected, TIMEOUT)
    wait_state(broadcaster, "away")
    answer = report(reports)
    assert answer["status"] == "red"
    assert [each["state"] for each in answer["connections"]] == ["away"]
    status, headers, body = ask(fails)
    assert (status, json.loads(body)["status"]) == ("503 Service Unavailable", "red")
    assert headers == {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
    }
    assert ask(fails, "HEAD") == (status, headers, b"")
    assert ask(fails, "POST")[0] == "405 Method Not Allowed"
    assert report(health.app(broadcaster, after=LATE, fail_after=60))["status"] == "red"
    server.start()
    broadcaster.wait_connected(TIMEOUT)
    assert report(fails)["status"] == "green"


def test_one_that_is_away_makes_the_answer_red(server: FakeServer, broadcaster: Broadcaster) -> None:
    with Broadcaster("password=none", backend=broadcaster._options.backend) as idle:
        server.stop()
        gevent.spawn(broadcaster.wait_connected, TIMEOUT)
        wait_state(broadcaster, "away")
        answer = report(health.app(idle, broadcaster, after=LATE))
    assert answer["status"] == "red"
    assert [each["state"] for each in answer["connections"]] == ["idle", "away"]


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda _: health.app(), "watched"),
        (lambda _: health.app("orders"), "watched"),  # type: ignore[arg-type]
        (lambda broadcaster: health.app(broadcaster, after=0), "after"),
        (lambda broadcaster: health.app(broadcaster, fail_after=True), "fail_after"),
        (lambda broadcaster: health.check(broadcaster, after="30"), "after"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_argument_is_refused(broadcaster: Broadcaster, make: Any, option: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(broadcaster)
    assert caught.value.option == option
