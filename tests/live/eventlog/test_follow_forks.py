"""Followers in forked children, and in patched processes."""

from __future__ import annotations

import pytest

from pglisten import EventLog
from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN
from support.servers.server import Server

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

PROGRAM = (
    CHILDREN
    + """
import pglisten

_, dsn, backend, schema, how = sys.argv[1:]
broadcaster = pglisten.Broadcaster(dsn, backend=backend, min_reconnect_interval=0.02)
log = pglisten.EventLog("events", broadcaster, schema=schema, window=100)

def take(follower, count):
    return [(item := follower.get(20)) and item.payload for _ in range(count)]

follower, parked = log.follow(timeout=20), log.follow("x")
waiting = gevent.spawn(parked.get)
gevent.idle()
for number in range(300):
    log.append("y", str(number))
    assert take(follower, 1) == [str(number)]
behind = log.follow(after=0, queue_size=7)
assert take(behind, 10) == [str(number) for number in range(10)]
pid = broadcaster.stats().server_pid

def child():
    for copy in (follower, parked, behind):
        assert copy.closed
        try:
            copy.get(20)
        except pglisten.ListenerClosed as error:
            assert "follow in this one" in str(error)
        else:
            raise AssertionError("a copy went on")
        copy.close()
    own = log.follow(after=behind.position, timeout=20)
    assert broadcaster.stats().server_pid != pid
    assert take(own, 290) == [str(number) for number in range(10, 300)]
    log.append("x", "the child's")
    assert take(own, 1) == ["the child's"]
    log.close()
    broadcaster.close()

def closes():
    log.close()
    assert log.closed
    gevent.sleep(0.1)       # lets every copied greenlet run, if it would

assert status(fork(closes, how)) == 0
assert not log.closed
assert status(fork(child, how)) == 0
assert waiting.get(timeout=20).payload == "the child's"
assert take(follower, 1) == ["the child's"]
assert take(behind, 291) == [*(str(number) for number in range(10, 300)), "the child's"]
assert broadcaster.stats().server_pid == pid

# A loss, in this process too.
log.append("x", "before")
broadcaster._fan_out.upstream._supervisor.connection.close(pglisten.ConnectionLost("cut"))
broadcaster.wait_connected(20)
log.append("x", "after")
assert take(follower, 2) == ["before", "after"]
log.close()
broadcaster.close()
print("well")
"""
)


@pytest.mark.parametrize("how", ["os", "gevent"])
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_after_a_fork_each_process_reads_for_itself(
    server: Server, backend_name: str, log_schema: str, patched: str, how: str
) -> None:
    server.query(EventLog.sql("events", schema=log_schema))
    succeeds(PROGRAM, patched, server.dsn(), backend_name, log_schema, how)
