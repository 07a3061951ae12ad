"""Steady traffic for a given time (``--soak-seconds=600``): what the process uses stays level."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from support.chaos.faults import Faults
from support.chaos.servers import Servers
from support.chaos.soak import Forgetful, Soak, not_flat
from support.fixtures.listeners import MakeListener
from support.fixtures.proxy import MakeProxy
from support.servers.server import PrivateServer

pytestmark = [pytest.mark.slow, pytest.mark.soak]


def test_steady_traffic_with_faults_needs_no_more_in_the_end_than_in_the_beginning(
    make_listener: MakeListener,
    private_server: PrivateServer,
    proxy: MakeProxy,
    report: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    chaos_seed: int,
    soak_seconds: float,
) -> None:
    # pytest would keep every record.
    caplog.set_level(logging.CRITICAL + 1, logger="pglisten")
    servers = Servers(private_server)
    between = proxy(private_server)
    listener = make_listener(servers.dsn([between]), heartbeat_interval=0.5, heartbeat_timeout=0.5)
    soak = Soak(listener, private_server, Faults(Forgetful(), servers, [between], listener), soak_seconds)
    try:
        soak.run(chaos_seed)
    finally:
        report(f"{soak.report()}; seed {chaos_seed}")
    assert soak.mistakes == []
    assert not_flat(soak.samples) == []
    assert soak.received + soak.missing == soak.sent
