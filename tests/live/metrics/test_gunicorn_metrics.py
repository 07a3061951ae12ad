"""Figures of several workers under gunicorn, in the multiprocess mode of prometheus_client."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.fixtures.gunicorn import Gunicorn, StartGunicorn
from support.servers.server import Server

pytestmark = [
    pytest.mark.slow, pytest.mark.programs, pytest.mark.timeout(120), pytest.mark.usefixtures("streams_log")
]  # fmt: skip


def scrape(gunicorn: Gunicorn) -> dict[str, float]:
    """Return the values, each of one broadcaster, log and consumer."""
    samples = [
        sample
        for family in text_string_to_metric_families(gunicorn.text("/metrics"))
        for sample in family.samples
    ]
    assert {sample.labels.get("name", "default") for sample in samples} == {"default"}
    found = {sample.name: sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def _wait(gunicorn: Gunicorn, **wanted: float) -> None:
    seen: dict[str, float | None] = {}

    def there() -> bool:
        found = scrape(gunicorn)
        seen.update((name, found.get(f"pglisten_{name}")) for name in wanted)
        return seen == wanted

    try:
        gunicorn.wait(there)
    except TimeoutError as error:
        raise AssertionError(f"{seen}, not {wanted}") from error


def test_one_worker_answers_for_all_and_a_dead_one_is_forgotten(
    start_gunicorn: StartGunicorn, server: Server, gunicorn_mode: list[str], tmp_path: Path
) -> None:
    files = tmp_path / "figures"
    files.mkdir()
    gunicorn = start_gunicorn(*gunicorn_mode, "-w", "2", CONSUME="yes", PROMETHEUS_MULTIPROC_DIR=str(files))
    gunicorn.wait(lambda: server.sessions() == 2)
    _wait(gunicorn, started=2, connected=2, disconnected_seconds=0, consumers=2, streams=0)
    assert gunicorn.get("/healthz")["status"] == "green"
    for payload in ("1", "bad", "2"):
        server.notify("prices", payload)
    gunicorn.open("/events?channel=orders")
    _wait(gunicorn, notifications_received_total=6, consumer_failures_total=2, streams=1, subscriptions=3)

    server.query("INSERT INTO streams.streams (channel, payload) SELECT 'a', '' FROM generate_series(1, 5)")
    server.query("INSERT INTO streams.streams_consumer (name, position) VALUES ('mail', 2)")
    _wait(gunicorn, log_position=5, log_consumer_lag=3)
    server.query("UPDATE streams.streams_consumer SET position = 5")
    _wait(gunicorn, log_consumer_lag=0)

    for pid in server.pids():
        server.terminate(pid)
    _wait(gunicorn, connected=2, reconnects_total=2)

    victim, other = gunicorn.workers()
    victim.kill()
    # A dead worker is one until the master has reaped it.
    gunicorn.wait(lambda: victim not in gunicorn.workers() and len(gunicorn.workers()) == 2)
    (new,) = set(gunicorn.workers()) - {other}
    gunicorn.wait((files / f"counter_{new.pid}.db").exists)
    assert not list(files.glob(f"gauge_live*_{victim.pid}.db"))
    _wait(gunicorn, started=2, connected=2, consumers=2, reconnects_total=2, consumer_failures_total=2)
