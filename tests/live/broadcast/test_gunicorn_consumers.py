"""Functions of `Broadcaster.on` under gunicorn: in each worker, never in the master, gone with the worker."""

from __future__ import annotations

import time

import pytest

from support.fixtures.gunicorn import PROMPTLY, Gunicorn, StartGunicorn
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120)]


def _wait_consumed(gunicorn: Gunicorn, consumed: list[str]) -> None:
    """Wait until both workers have consumed this and nothing else."""
    seen: dict[int, list[str]] = {}

    def have() -> bool:
        answer = gunicorn.get("/")
        seen[answer["pid"]] = answer["consumed"]
        living = {process.pid for process in gunicorn.workers()}
        return len(living) == 2 and all(seen.get(pid) == consumed for pid in living)

    gunicorn.wait(have)


def test_each_worker_consumes_goes_on_after_a_failure_and_ends_promptly(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str]
) -> None:
    gunicorn = start_gunicorn(*gunicorn_mode, "-w", "2", CONSUME="yes")
    _wait_consumed(gunicorn, ["gap"])
    assert server.sessions() == 2
    for payload in ("1", "bad", "2"):
        server.notify("prices", payload)
    _wait_consumed(gunicorn, ["gap", "1", "bad", "gap", "2"])
    assert gunicorn.log.count("continues in") == 2
    server.notify("prices", "stuck")
    workers = gunicorn.workers()
    _wait_consumed(gunicorn, ["gap", "1", "bad", "gap", "2", "stuck"])
    began = time.monotonic()
    gunicorn.process.terminate()
    gunicorn.wait_gone(*workers, gunicorn.master)
    assert time.monotonic() - began < PROMPTLY
    gunicorn.wait(lambda: server.sessions() == 0)
