"""Calls with a timeout of zero, on a real server: each in a process of its own, patched and not."""

from __future__ import annotations

import pytest

from support.fixtures.listeners import succeeds
from support.programs.zero_timeout import CALLS, END, NO_TIME
from support.servers.server import Server


@pytest.mark.pairwise
@pytest.mark.sweep
@pytest.mark.parametrize("how", ["plain", "patched"])
@pytest.mark.parametrize("calls", CALLS)
def test_a_call_without_time_lets_others_run(server: Server, backend_name: str, calls: str, how: str) -> None:
    succeeds(NO_TIME + CALLS[calls] + END, how, backend_name, server.dsn())
