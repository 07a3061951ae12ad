"""Random faults: nothing is lost without a ``None`` in its place.

The checks are in `support.chaos.checker`, the faults in `support.chaos.faults`; docs/testing.md says how to
repeat a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.chaos.run import Run, Setting
from support.chaos.servers import Servers
from support.fixtures.proxy import MakeProxy

# Start the janitor first: what it opens would look like a leak of the first test.
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("janitor")]

SHOWN = 5
"""Violations that a failure shows; one loss often causes a hundred."""


@pytest.mark.parametrize(
    ("overflow", "topology"),
    [("block", "one server"), ("drop_oldest", "one server"), ("block", "failover")],
    ids=["block", "drop_oldest", "failover"],
)
def test_nothing_is_lost_without_a_marker_whatever_goes_wrong(
    request: pytest.FixtureRequest,
    proxy: MakeProxy,
    report: Callable[[str], None],
    tmp_path: Path,
    chaos_seed: int,
    chaos_seconds: float,
    backend_name: str,
    overflow: Any,
    topology: str,
) -> None:
    if topology == "one server":
        servers = Servers(request.getfixturevalue("private_server"))
    else:
        servers = Servers(pair=request.getfixturevalue("standby_pair"))
    repeat = f"pytest '{request.node.nodeid}' --chaos-seed={chaos_seed} --chaos-seconds={chaos_seconds:g}"
    print(repeat)
    run = Run(Setting(chaos_seed, chaos_seconds, backend_name, overflow), servers, proxy)
    try:
        run.play()
    finally:
        report(run.report())
    if found := run.violations():
        everything = tmp_path / "history"
        everything.write_text(run.history.excerpt(0, len(run.history.records)), encoding="utf-8")
        shown = "\n\n".join(run.describe(violation) for violation in found[:SHOWN])
        pytest.fail(
            f"{len(found)} violations; again with: {repeat}\n{run.report()}\n"
            f"All of it: {everything}\n\n{shown}",
            pytrace=False,
        )
