"""A cache keeps no value that may have changed, and no value while it cannot hear of changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster
from pglisten.cache import Cache
from pglisten.testing import FakeServer
from support.broadcasters import make_fake
from support.timeouts import TIMEOUT


class Table:
    """What the cache reads, and how often it has."""

    def __init__(self) -> None:
        self.value = 1
        self.reads = 0
        self.may_return = Event()
        self.may_return.set()
        self.reading = Event()

    def read(self, key: str) -> int:
        if key == "bad":
            raise LookupError(key)
        self.reads += 1
        value = self.value
        self.reading.set()
        self.may_return.wait(TIMEOUT)
        return value


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def cache(broadcaster: Broadcaster, table: Table) -> Iterator[Cache[int]]:
    made = Cache(broadcaster, "prices", table.read, size=3)
    broadcaster.start()
    wait_hears(made)
    yield made
    table.may_return.set()


def wait_hears(cache: Cache[int]) -> None:
    with gevent.Timeout(TIMEOUT):
        while not cache._hears():
            gevent.idle()


def kept(cache: Cache[int], table: Table, key: str) -> bool:
    """Whether it returns *key* without reading."""
    before = table.reads
    cache.get(key)
    return table.reads == before


def changed(broadcaster: Broadcaster, payload: str) -> None:
    """Notify, and return when the cache has heard of it."""
    with broadcaster.subscribe("prices", timeout=TIMEOUT) as beside:
        broadcaster.notify("prices", payload, TIMEOUT)
        beside.get(TIMEOUT)
        gevent.idle()


def test_a_value_is_read_once_until_its_key_is_notified(
    broadcaster: Broadcaster, cache: Cache[int], table: Table
) -> None:
    assert (cache.get("tea"), cache.get("tea"), cache.get("jam"), table.reads) == (1, 1, 1, 2)
    table.value = 2
    changed(broadcaster, "tea")
    assert (cache.get("tea"), cache.get("jam")) == (2, 1)
    changed(broadcaster, "")
    assert (cache.get("tea"), cache.get("jam")) == (2, 2)


@pytest.mark.parametrize("payload", ["tea", ""])
def test_what_was_read_while_it_changed_is_not_kept(
    broadcaster: Broadcaster, cache: Cache[int], table: Table, payload: str
) -> None:
    table.may_return.clear()
    reading = gevent.spawn(cache.get, "tea")
    table.reading.wait(TIMEOUT)
    table.value = 2
    changed(broadcaster, payload)
    table.may_return.set()
    assert reading.get(timeout=TIMEOUT) == 1
    assert cache.get("tea") == 2
    assert kept(cache, table, "tea")


def test_changes_of_other_keys_do_not_keep_a_value_out(
    broadcaster: Broadcaster, cache: Cache[int], table: Table
) -> None:
    table.may_return.clear()
    reading = gevent.spawn(cache.get, "tea")
    table.reading.wait(TIMEOUT)
    changed(broadcaster, "jam")
    table.may_return.set()
    reading.get(timeout=TIMEOUT)
    assert kept(cache, table, "tea")


def test_nothing_is_kept_over_a_loss_not_even_until_the_gap_has_been_handled(
    server: FakeServer, broadcaster: Broadcaster, cache: Cache[int], table: Table
) -> None:
    cache.get("tea")
    server.refuse = pglisten.ConnectionFailed("no")
    server.cut()
    while broadcaster.connected:
        gevent.idle()
    table.value = 2
    assert cache.get("tea") == 2
    server.refuse = None
    while not broadcaster.connected:
        gevent.idle()
    assert cache.get("tea") == 2
    wait_hears(cache)
    assert cache.get("tea") == 2
    assert kept(cache, table, "tea")


def test_nothing_is_kept_before_the_start_and_after_the_end(server: FakeServer, table: Table) -> None:
    with make_fake(server) as broadcaster:
        cache = Cache(broadcaster, "prices", table.read)
        cache.get("tea")
        assert not kept(cache, table, "tea")
        broadcaster.start()
        wait_hears(cache)
        cache.get("tea")
        assert kept(cache, table, "tea")
        cache._consumer.kill()
        assert not kept(cache, table, "tea")
    assert not kept(cache, table, "tea")


def test_the_oldest_makes_room_and_what_cannot_be_read_leaves_nothing(
    cache: Cache[int], table: Table
) -> None:
    with pytest.raises(LookupError):
        cache.get("bad")
    for key in "abcd":
        cache.get(key)
    assert [kept(cache, table, key) for key in "dcba"] == [True, True, True, False]
    assert (len(cache._values), len(cache._loading)) == (3, 0)


@pytest.mark.parametrize(
    ("wrong", "option"),
    [({"size": 0}, "size"), ({"size": True}, "size"), ({"size": 1.5}, "size"), ({"load": None}, "load")],
)
def test_wrong_arguments_are_refused(broadcaster: Broadcaster, wrong: dict[str, Any], option: str) -> None:
    with pytest.raises(pglisten.ConfigurationError) as caught:
        Cache(broadcaster, "prices", **{"load": len, **wrong})
    assert caught.value.option == option
