"""A standby becomes the primary. If it lacked the newest entries, positions go back."""

from __future__ import annotations

import gevent
import pytest

from pglisten import Broadcaster, EventLog
from support.eventlogs import append, fill, payloads, positions
from support.fixtures.standby import StandbyPair
from support.timeouts import TIMEOUT

pytestmark = pytest.mark.slow  # Two servers for each test: on one Python.


def follow_both(pair: StandbyPair, backend_name: str) -> tuple[Broadcaster, EventLog]:
    pair.primary.query(EventLog.sql("events"))
    broadcaster = Broadcaster(
        pair.dsn(target_session_attrs="read-write"),
        backend=backend_name,
        min_reconnect_interval=0.02,
        max_reconnect_interval=0.1,
    )
    return broadcaster, EventLog("events", broadcaster, window=100)


def test_a_standby_that_has_everything_leaves_no_gap(backend_name: str, standby_pair: StandbyPair) -> None:
    broadcaster, log = follow_both(standby_pair, backend_name)
    with broadcaster, log:
        follower, waiting = log.follow(), gevent.spawn(log.follow("other").get)
        fill(standby_pair.primary, log, 300)
        behind = log.follow(after=0)
        assert payloads(behind, 1) == ["1"]
        standby_pair.wait_caught_up()
        standby_pair.primary.kill()
        standby_pair.promote()
        append(standby_pair.primary, log, "other", "after")
        expected = [*map(str, range(1, 301)), "after"]
        assert payloads(follower, 301) == expected
        assert payloads(behind, 300) == expected[1:]
        assert waiting.get(timeout=TIMEOUT).payload == "after"


@pytest.mark.parametrize("written", [0, 1, 60])
def test_a_standby_that_lacks_entries_is_a_gap_for_all_who_go_on_from_there(
    backend_name: str, standby_pair: StandbyPair, written: int
) -> None:
    broadcaster, log = follow_both(standby_pair, backend_name)
    with broadcaster, log:
        follower, behind = log.follow(), log.follow(after=0)
        fill(standby_pair.primary, log, 300)
        assert payloads(follower, 300)[-1] == "300"
        standby_pair.wait_caught_up()
        # It receives no more, so the next 50 entries will be lost.
        standby_pair.standby.kill()
        fill(standby_pair.primary, log, 50)
        assert positions(follower, 50)[-1] == 350
        assert positions(behind, 1) == [1]
        waiting = gevent.spawn(log.follow("other").get)
        gevent.idle()
        standby_pair.primary.kill()
        standby_pair.standby.start()
        # Their positions are given again, or not: a sequence skips up to 32 numbers after a crash.
        standby_pair.promote()
        fill(standby_pair.primary, log, written)
        assert waiting.get(timeout=TIMEOUT) is None
        assert follower.get(TIMEOUT) is None
        assert behind.get(TIMEOUT) is None
        append(standby_pair.primary, log, "c", "after")
        # What the new primary was given before the reader came is part of the gap.
        expected = [*map(str, range(1, written + 1)), "after"]
        for each in (follower, behind):
            found = payloads(each, 1)
            while found[-1] != "after":
                found += payloads(each, 1)
            assert found == expected[-len(found) :]
