"""Random faults: every committed entry comes to every follower, once and in order.

The checks are in `support.chaos.log_checker`; docs/testing.md says how to repeat a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.chaos.log_run import LOGS, LogRun, Setting
from support.chaos.log_servers import LogServers
from support.fixtures.proxy import MakeProxy

# Start the janitor first: what it opens would look like a leak of the first test.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("janitor")]

SHOWN = 10
"""Violations that a failure shows; one loss often causes a hundred."""

BULK = {"one server": 100_000, "synchronous": 5000, "asynchronous": 5000}
"""Rows that are copied in one transaction."""


@pytest.mark.parametrize(
    "topology",
    [
        "one server",
        # A failover is the same to each backend: its connection ends.
        pytest.param("synchronous", marks=pytest.mark.any_backend),
        pytest.param("asynchronous", marks=pytest.mark.any_backend),
    ],
)
def test_every_committed_entry_comes_once_and_in_order_whatever_goes_wrong(
    request: pytest.FixtureRequest,
    proxy: MakeProxy,
    report: Callable[[str], None],
    tmp_path: Path,
    chaos_seed: int,
    chaos_seconds: float,
    backend_name: str,
    topology: str,
) -> None:
    if topology == "one server":
        servers = LogServers(LOGS, request.getfixturevalue("private_server"))
    else:
        pair = request.getfixturevalue("standby_pair")
        servers = LogServers(LOGS, pair=pair, synchronous=topology == "synchronous")
    repeat = f"pytest '{request.node.nodeid}' --chaos-seed={chaos_seed} --chaos-seconds={chaos_seconds:g}"
    print(repeat)
    setting = Setting(chaos_seed, chaos_seconds, backend_name, topology, BULK[topology])
    run = LogRun(setting, servers, proxy, tmp_path)
    try:
        run.play()
        found = run.judge()
    finally:
        report(run.report())
    if found:
        shown = "\n\n".join(f"{violation.kind}: {violation.text}" for violation in found[:SHOWN])
        pytest.fail(
            f"{len(found)} violations; again with: {repeat}\n{run.report()}\n\n{shown}", pytrace=False
        )
