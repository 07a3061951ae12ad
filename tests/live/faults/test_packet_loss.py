"""A network that loses packets, as no proxy can: losses that the kernel finds, and unnoticed outages.

Each listener runs in a network namespace of its own, whose link is taken down.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.fixtures.namespace import RunInNamespace

pytestmark = pytest.mark.slow  # A process with a server for each test, and seconds of silence.

NO_HEARTBEAT: dict[str, Any] = {"heartbeat_interval": None}

ALLOWANCE = 4.0
"""Seconds that a busy machine, and the coarse timers of TCP, may take on top."""

TICK = 0.25
"""Seconds by which the kernel may count from an earlier moment than the test, or round a timer down."""


def cut(
    namespace: RunInNamespace, backend: str, occupation: str, outage: str = "until lost", **options: Any
) -> dict[str, Any]:
    facts: dict[str, Any] = namespace("black_hole.py", backend, occupation, json.dumps(options), outage)
    return facts


def assert_back(facts: dict[str, Any]) -> None:
    assert facts["first"] is None
    assert facts["items"] == ["last"]
    assert facts["reconnects"] == 1
    assert facts["received while it was down"] == 0
    assert facts["events"][:2] == ["CONNECTED", "DISCONNECTED"]
    assert "RECONNECTED" in facts["events"]


@pytest.mark.parametrize("more", [{}, {"tcp_user_timeout": 0}], ids=["user timeout left open", "none"])
def test_keepalive_ends_an_idle_connection_when_the_dsn_says(
    namespace: RunInNamespace, backend_name: str, more: dict[str, int]
) -> None:
    keepalives = {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 3}
    facts = cut(namespace, backend_name, "idle", dsn=keepalives | more, **NO_HEARTBEAT)
    assert 1 + 1 * 3 - TICK <= facts["seconds"] < 1 + 1 * 3 + ALLOWANCE
    assert "timed out" in facts["error"]
    assert_back(facts)


def test_tcp_user_timeout_ends_a_connection_with_a_query_in_flight_when_the_dsn_says(
    namespace: RunInNamespace, backend_name: str
) -> None:
    facts = cut(namespace, backend_name, "query", dsn={"tcp_user_timeout": 2000}, **NO_HEARTBEAT)
    assert 2 - TICK <= facts["seconds"] < 2 + ALLOWANCE
    assert "timed out" in facts["error"]
    assert facts["query"] == "lost"
    assert_back(facts)


def test_the_heartbeat_is_quicker_if_its_times_are_shorter(
    namespace: RunInNamespace, backend_name: str
) -> None:
    facts = cut(namespace, backend_name, "idle", heartbeat_interval=0.5, heartbeat_timeout=0.5)
    assert 1 - TICK <= facts["seconds"] < 1 + ALLOWANCE
    assert "heartbeat" in facts["error"]
    assert_back(facts)


def test_an_outage_shorter_than_every_limit_loses_nothing_and_is_not_noticed(
    namespace: RunInNamespace, backend_name: str
) -> None:
    facts = cut(namespace, backend_name, "idle", outage="1.0")
    assert facts["received while it was down"] == 0
    assert facts["items"] == [*map(str, range(100)), "last"]
    assert facts["events"] == ["CONNECTED"]
    assert facts["reconnects"] == 0
