"""A primary and its standby: the fixture that the tests of failover use."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import gevent
import gevent.subprocess
import psutil
import pytest

import pglisten
from pglisten import Listener
from support.fixtures.standby import StandbyPair
from support.servers.server import PrivateServer

pytestmark = pytest.mark.slow  # Two servers for each test: on one Python.

OWNER = """
import json, os
from pglisten.testing.postgres.server import PrivatePostgres

with PrivatePostgres(prefer=("local", "wheel")) as primary, primary.standby() as standby:
    print(json.dumps([primary.socket_directory, standby.socket_directory]), flush=True)
    os.read(0, 1)
"""


def in_recovery(server: PrivateServer) -> bool:
    return bool(server.query("SELECT pg_is_in_recovery()")[0][0])


def test_what_is_written_to_the_primary_is_read_from_the_standby(standby_pair: StandbyPair) -> None:
    standby_pair.primary.query("CREATE TABLE t AS SELECT 1 AS n")
    standby_pair.wait_caught_up()
    assert standby_pair.standby.query("SELECT n FROM t") == [(1,)]
    assert [in_recovery(server) for server in standby_pair.servers] == [False, True]


def test_the_two_change_places_again_and_again_whatever_became_of_the_old_primary(
    standby_pair: StandbyPair,
) -> None:
    dsn, ports = standby_pair.dsn(), [server.port for server in standby_pair.servers]
    standby_pair.primary.query("CREATE TABLE t (n int)")
    for number, end in enumerate(("kill", "freeze", "stop", None)):
        old, new = standby_pair.primary, standby_pair.standby
        standby_pair.wait_caught_up()
        if end is not None:
            getattr(old, end)()
        standby_pair.promote()
        assert (standby_pair.primary, standby_pair.standby) == (new, old)
        new.query("INSERT INTO t VALUES (%s)", number)
        standby_pair.rejoin()
        standby_pair.wait_caught_up()
        assert in_recovery(old)
        assert old.query("SELECT max(n), count(*) FROM t") == [(number, number + 1)]
    assert standby_pair.dsn() == dsn
    assert [server.port for server in standby_pair.servers] == ports


def test_a_standby_that_was_away_catches_up(standby_pair: StandbyPair) -> None:
    standby_pair.standby.kill()
    standby_pair.primary.query("CREATE TABLE t AS SELECT generate_series(1, 100000) AS n")
    standby_pair.primary.query("CHECKPOINT")
    standby_pair.standby.start()
    standby_pair.wait_caught_up()
    assert standby_pair.standby.query("SELECT count(*) FROM t") == [(100_000,)]


def test_a_standby_that_does_not_catch_up_says_so(standby_pair: StandbyPair) -> None:
    standby_pair.standby.query("SELECT pg_wal_replay_pause()")
    standby_pair.primary.query("CREATE TABLE t (n int)")
    with pytest.raises(TimeoutError, match="not caught up"):
        standby_pair.wait_caught_up(timeout=0.1)


def test_a_listener_waits_for_a_standby_to_be_promoted(standby_pair: StandbyPair, backend_name: str) -> None:
    dsn = standby_pair.standby.dsn()
    with Listener(
        dsn, backend=backend_name, min_reconnect_interval=0.1, max_reconnect_interval=0.1
    ) as listener:
        listening = gevent.spawn(listener.listen, "x", 40)
        with pytest.raises(pglisten.OperationTimeout) as caught:
            listener.wait_connected(1)
        assert getattr(caught.value.__cause__, "sqlstate", None) == "25006"
        standby_pair.promote()
        listening.get(timeout=40)
        standby_pair.primary.notify("x", "after")
        item = listener.get(timeout=20)
        assert item is not None
        assert item.payload == "after"


def test_when_the_owner_of_a_pair_is_killed_nothing_is_left() -> None:
    with gevent.subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=gevent.subprocess.PIPE, stdout=gevent.subprocess.PIPE, cwd="/"
    ) as owner:
        assert owner.stdout is not None
        folders = [Path(name) for name in json.loads(owner.stdout.readline())]
        processes = psutil.Process(owner.pid).children(recursive=True)
        assert len(processes) > 5
        owner.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
    assert not any(folder.exists() for folder in folders)
