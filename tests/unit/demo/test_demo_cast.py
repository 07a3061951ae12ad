"""What the workers of the demo tell one another, on a server in memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import gevent
import pytest

from pglisten import Broadcaster
from pglisten._demo.door import Door
from pglisten._demo.shop import message, message_of, order_number
from pglisten._demo.web.cast import MOST_WINDOWS, Cast
from pglisten._sse.registry import streams
from pglisten.testing import FakeServer
from support.timeouts import TIMEOUT

ME = os.getpid()


@pytest.fixture
def door() -> Door:
    return Door("password=none")


@pytest.fixture
def cast(broadcaster: Broadcaster, door: Door) -> Cast:
    made = Cast(broadcaster, "backstage", door)
    made.start()
    wait_for(made, lambda fields: [each["worker"] for each in fields["workers"]] == [ME])
    return made


def wait_for(cast: Cast, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    with gevent.Timeout(TIMEOUT):
        while not fits(fields := cast.fields()):
            gevent.sleep(0.001)
    return fields


def test_a_window_is_announced_when_it_comes_and_when_it_goes(cast: Cast) -> None:
    cast.enter("one")
    cast.enter("two")
    wait_for(cast, lambda fields: fields["workers"][0]["windows"] == ("one", "two"))
    cast.leave("one")
    cast.leave("not there")
    wait_for(cast, lambda fields: fields["workers"][0]["windows"] == ("two",))


def test_a_worker_that_begins_hears_of_the_others(
    server: FakeServer, broadcaster: Broadcaster, cast: Cast
) -> None:
    cast.enter("one")
    wait_for(cast, lambda fields: fields["workers"][0]["windows"] == ("one",))
    subscription = broadcaster.subscribe("backstage", timeout=TIMEOUT)
    server.notify("backstage", '{"who": true}')
    told = [json.loads(subscription.get(TIMEOUT).payload) for _ in range(2)]
    assert told == [{"who": True}, {"worker": ME, "backend": "fake", "windows": ["one"], "ends": False}]


def test_an_outage_is_counted_down_and_ends_with_the_return(
    server: FakeServer, cast: Cast, door: Door
) -> None:
    server.notify("backstage", json.dumps({"outage": "cut", "seconds": 30}))
    fields = wait_for(cast, lambda fields: fields["outage"] is not None)
    assert fields["outage"]["kind"] == "cut"
    assert 29 < fields["outage"]["seconds"] <= 30
    assert [each["away"] for each in fields["workers"]] == [True]
    with pytest.raises(ConnectionRefusedError):
        door()
    server.cut()
    fields = wait_for(cast, lambda fields: not fields["workers"][0]["away"])
    assert fields["outage"] is None


def test_a_worker_that_stops_says_goodbye_and_one_that_is_dead_is_not_shown(
    server: FakeServer, cast: Cast
) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    for pid in (child, os.getppid()):
        server.notify("backstage", json.dumps({"worker": pid, "backend": "x", "windows": []}))
    wait_for(cast, lambda fields: {each["worker"] for each in fields["workers"]} == {ME, os.getppid()})
    cast.enter("one")
    streams.stopping = True
    try:
        cast.leave("one")
        wait_for(cast, lambda fields: [each["worker"] for each in fields["workers"]] == [os.getppid()])
    finally:
        streams.reset()


def test_what_makes_no_sense_is_ignored_and_nothing_is_too_much(server: FakeServer, cast: Cast) -> None:
    for payload in ("", "{", "[]", "7", '{"worker": 1}', '{"outage": 1, "seconds": "x"}', "[" * 7000):
        server.notify("backstage", payload)
    many = {"worker": ME, "backend": "b" * 100, "windows": ["w" * 50] * 100}
    server.notify("backstage", json.dumps(many))
    [fields] = wait_for(cast, lambda fields: fields["workers"][0]["backend"] != "fake")["workers"]
    assert (fields["backend"], fields["windows"]) == ("b" * 40, ("w" * 40,) * MOST_WINDOWS)


def test_a_worker_that_is_about_to_be_replaced_knows_it(server: FakeServer, cast: Cast) -> None:
    server.notify("backstage", '{"reload": true}')
    with gevent.Timeout(TIMEOUT):
        while not cast.leaving:
            gevent.sleep(0.001)


@pytest.mark.parametrize("payload", ["", "7", "null", "{}", '{"key": 1, "text": "x"}', "[" * 90_000])
def test_what_another_program_sends_is_its_own_key_and_text(payload: str) -> None:
    assert message_of(payload) == (payload, payload)


def test_a_message_keeps_its_key_and_an_order_its_number() -> None:
    assert message_of(message("Ada", "Order 17, two", "k")) == ("k", "Order 17, two")
    assert message_of(message("Ada", "x"))[0] != message_of(message("Ada", "x"))[0]
    assert [order_number(text) for text in ("Order 17, two", "Order 1", "an Order 1")] == [17, 1, None]
