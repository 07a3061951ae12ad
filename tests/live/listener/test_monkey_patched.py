"""What waits, forks, starts threads or closes does so in a monkey-patched process, by gevent's modules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PATCHED = """
from gevent import monkey
monkey.patch_all()
import sys, pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "--tb=short", *sys.argv[1:]]))
"""
TESTS = Path(__file__).parents[2]
LIMIT = 300
"""Seconds for a part on a loaded machine."""

CONNECTING = (
    "test_a_refused_connection_fails_at_once",
    "test_a_silent_server_fails_in_time_and_the_hub_runs",
    "test_a_connect_that_ends_early_leaves_no_descriptor",
)
WAITING = (
    "test_receive_does_not_wait",
    "test_what_arrives_during_a_query_is_received",
    "test_the_hub_runs_during_a_query",
    "test_a_killed_query_leaves_a_session_that_closes",
    "test_a_query_without_an_end_in_time_loses_the_connection",
    "test_rows_without_an_end_in_time_lose_the_connection_and_the_hub_runs",
)
NOTIFIED = ("test_a_burst_during_a_query_arrives_complete", "test_receive_does_not_wait")
NETWORK = (
    "test_a_large_query_and_a_large_burst_at_once_do_not_block_each_other",
    "test_an_idle_session_is_lost_when_cut",
    "test_a_query_into_a_black_hole_is_given_up_in_time",
    "test_close_does_not_wait_for_the_network",
    "test_what_is_thrown_into_a_connect_comes_out_of_it",
    "test_what_is_thrown_into_a_query_comes_out_of_it",
)
ENDING = (
    "test_a_busy_session_that_is_terminated_says_why",
    "test_close_leaves_no_descriptor_and_may_be_repeated",
    "test_abandoned_in_a_forked_child_the_parents_session_lives",
    "test_a_forked_child_closes_nothing_else_under_its_number",
)
TLS = (
    "test_sslmode_decides_whether_the_session_is_encrypted",
    "test_a_certificate_of_another_authority_is_refused",
    "test_a_client_certificate_logs_in",
    "test_200_notifications_in_a_record_each_need_one_wait",
)
LOGIN = ("test_the_right_password_logs_in", "test_a_wrong_password_is_28p01")

CONTRACT = {
    "contract/test_fake.py::TestFakeBackend": (*WAITING[:4], *ENDING[1:]),
    "contract/test_backends.py::TestOverTcp": (*CONNECTING, *WAITING, *NETWORK, *ENDING),
    "contract/test_backends.py::TestOverAUnixSocket": (*CONNECTING, *ENDING),
    "contract/test_backends.py::TestOverTls": (*NOTIFIED, *NETWORK, *ENDING, *TLS),
    "contract/test_backends.py::TestLogin": LOGIN,
}
"""The tests of the contract in which a patched module could take part. Texts, rows and errors pass none."""

CALLS = (
    "live/listener/test_close.py",
    "live/listener/test_close_callers.py",
    "live/listener/test_connection.py",
    "live/listener/test_listener.py",
    "live/listener/test_stalls.py",
    "live/listener/test_threads.py",
    "live/listener/test_slow_network.py::test_a_ping_that_never_had_its_turn_proves_nothing_while_others_are_answered",
)


@pytest.mark.slow
@pytest.mark.timeout(LIMIT + 30)
@pytest.mark.parametrize(
    "tests",
    [[f"{place}::{name}" for place, names in CONTRACT.items() for name in names], CALLS],
    ids=["contract", "calls"],
)
def test_it_holds_in_a_patched_process(tests: list[str]) -> None:
    # Isolated, or the current directory would be searched before the installed packages.
    command = [sys.executable, "-I", "-c", PATCHED, *(str(TESTS / name) for name in tests)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
