"""What a broadcaster's figures count."""

from __future__ import annotations

import gevent
import pytest

from pglisten import Broadcaster, ServerError
from pglisten.testing import FakeServer
from support.timeouts import TIMEOUT


def figures(broadcaster: Broadcaster) -> tuple[int, int]:
    stats = broadcaster.stats()
    return stats.subscriptions, stats.subscriptions_waiting


def test_a_subscription_counts_once_the_server_has_acknowledged_its_channels(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    server.freeze()
    calls = [gevent.spawn(broadcaster.subscribe, "a", "b", timeout=TIMEOUT) for _ in range(3)]
    killed = gevent.spawn(broadcaster.subscribe, "a", timeout=TIMEOUT)
    gevent.idle()
    assert figures(broadcaster) == (0, 4)
    killed.kill()
    assert figures(broadcaster) == (0, 3)
    server.thaw()
    first, *others = (call.get(timeout=TIMEOUT) for call in calls)
    assert figures(broadcaster) == (3, 0)
    # A subscription that adds a channel stays open meanwhile.
    server.freeze()
    taking = gevent.spawn(first.listen, "c", timeout=TIMEOUT)
    gevent.idle()
    assert figures(broadcaster) == (3, 0)
    server.thaw()
    taking.get(timeout=TIMEOUT)
    for subscription in others:
        subscription.close()
    assert figures(broadcaster) == (1, 0)


def test_a_subscription_that_the_server_refuses_is_not_counted(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    server.refuse_listen["a"] = ServerError("no", sqlstate="22P05")
    with pytest.raises(ServerError):
        broadcaster.subscribe("a", timeout=TIMEOUT)
    assert figures(broadcaster) == (0, 0)
