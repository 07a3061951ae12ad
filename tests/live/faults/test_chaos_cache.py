"""Random faults: no cache returns a value that is older than a change of which it has heard, or keeps one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import gevent
import pytest
from gevent.event import Event

from pglisten import Broadcaster, Notification
from pglisten.cache import Cache
from support.chaos.faults import NETWORK, SERVER, Faults, plan
from support.chaos.history import History
from support.chaos.servers import Servers
from support.fixtures.proxy import MakeProxy
from support.servers.server import PrivateServer
from support.timeouts import RECOVERY_TIMEOUT

# Start the janitor first: what it opens would look like a leak of the first test.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("janitor")]

KEYS = [str(number) for number in range(8)]

TABLE = """
CREATE TABLE versions (key text PRIMARY KEY, version int NOT NULL);
INSERT INTO versions SELECT number, 0 FROM generate_series(0, 7) AS number;
"""

CHANGE = """
WITH changed AS (UPDATE versions SET version = version + 1 WHERE key = %s RETURNING *)
SELECT pg_notify('versions', key || ' ' || version) FROM changed
"""


class Watched(Cache[int]):
    """A cache that notes the newest version of each key that it has heard of."""

    heard: Counter[str]

    def _changed(self, notification: Notification) -> None:
        key, version = notification.payload.split()
        super()._changed(notification._replace(payload=key))
        self.heard[key] = max(self.heard[key], int(version))


class Run:
    """One cache, greenlets that ask it, one that changes what it reads, and the faults."""

    def __init__(self, server: PrivateServer, broadcaster: Broadcaster, seed: int) -> None:
        self.server = server
        self.rng = random.Random(f"{seed} cache")
        self.broadcaster = broadcaster
        self.cache = Watched(broadcaster, "versions", self.load)
        self.cache.heard = Counter()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.stopping = Event()

    def load(self, key: str) -> int:
        self.counts["loads"] += 1
        gevent.sleep(self.rng.choice((0.0, 0.002)))
        ((version,),) = self.server.query("SELECT version FROM versions WHERE key = %s", key)
        # The value is on its way, and may change meanwhile.
        gevent.sleep(self.rng.choice((0.0, 0.002, 0.02)))
        return int(version)

    def ask(self) -> None:
        while not self.stopping.wait(self.rng.uniform(0.0, 0.005)):
            key = self.rng.choice(KEYS)
            heard = self.cache.heard[key]
            try:
                version = self.cache.get(key)
            except Exception:  # noqa: BLE001 - the server is down, and so says its driver
                self.counts["failed loads"] += 1
                continue
            self.counts["gets"] += 1
            if version < heard:
                self.violations.append(f"{key}: {version} after {heard} was heard")

    def change(self) -> None:
        while not self.stopping.wait(self.rng.uniform(0.0, 0.02)):
            try:
                self.server.query(CHANGE, self.rng.choice(KEYS))
                self.counts["changes"] += 1
            except Exception:  # noqa: BLE001 - as above
                self.counts["failed changes"] += 1

    def becomes_quiet(self) -> bool:
        """Return whether the cache comes to hold what the table holds, and needs no more reads for it."""
        with gevent.Timeout(RECOVERY_TIMEOUT, False):  # type: ignore[arg-type]
            while True:
                table = {str(key): version for key, version in self.server.query("TABLE versions")}
                seen = {key: self.cache.get(key) for key in KEYS}
                loads = self.counts["loads"]
                again = {key: self.cache.get(key) for key in KEYS}
                if seen == again == table and loads == self.counts["loads"]:
                    return True
                gevent.sleep(0.01)
        return False


def test_no_cache_is_older_than_what_it_has_heard_and_none_stays_stale(
    private_server: PrivateServer,
    proxy: MakeProxy,
    report: Callable[[str], None],
    chaos_seed: int,
    chaos_seconds: float,
    backend_name: str,
) -> None:
    seconds = chaos_seconds / 2
    servers, between = Servers(private_server), proxy(private_server)
    private_server.query(TABLE)
    with Broadcaster(
        servers.dsn([between]),
        backend=backend_name,
        min_reconnect_interval=0.02,
        max_reconnect_interval=0.2,
        connect_timeout=1.0,
        heartbeat_interval=0.3,
        heartbeat_timeout=0.3,
    ) as broadcaster:
        run = Run(private_server, broadcaster, chaos_seed)
        broadcaster.start()
        broadcaster.wait_connected(10)
        faults = Faults(History(), servers, [between], broadcaster)
        others = [gevent.spawn(run.ask) for _ in range(8)] + [gevent.spawn(run.change)]
        lanes = [
            gevent.spawn(faults.carry_out, plan(chaos_seed, "network", NETWORK, seconds)),
            gevent.spawn(faults.carry_out, plan(chaos_seed, "servers", SERVER, seconds)),
        ]
        gevent.joinall(lanes, raise_error=True)
        run.stopping.set()
        gevent.joinall(others, raise_error=True)
        quiet = run.becomes_quiet()
        stats = broadcaster.stats()
        report(
            f"cache {backend_name} seed {chaos_seed}: {dict(run.counts)}, {stats.reconnects} reconnections, "
            f"{sum(faults.counts.values())} faults"
        )
    assert not run.violations, run.violations[:5]
    assert quiet
    assert stats.consumer_failures == 0
    assert stats.reconnects > 0
