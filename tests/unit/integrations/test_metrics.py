"""The figures for Prometheus, as its parser reads them from an answer of one process."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from pglisten import Broadcaster, ConfigurationError, EventLog, ListenerClosed, metrics
from pglisten._metrics.exporter import exporters
from pglisten._metrics.figures import COUNTERS, GAUGES, LOG_GAUGES, STREAMS
from pglisten.testing import FakeServer
from support.broadcasters import make_fake, settle
from support.timeouts import TIMEOUT

ROOT = Path(__file__).parents[3]
BROADCASTER_FIGURES = {figure.name for figure in (*COUNTERS, *GAUGES)}
ALL_FIGURES = {figure.name for figure in (*COUNTERS, *GAUGES, *LOG_GAUGES)} | {STREAMS}
_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """Return a name of its own for each test: the registry is that of the process."""
    return f"test{next(_numbers)}"


def scrape() -> dict[tuple[str, str], float]:
    """Return the values by metric and label ``name``."""
    status: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": ""}
    body = b"".join(metrics.app()(environ, lambda first, *_: status.append(first)))  # type: ignore[arg-type]
    assert status == ["200 OK"]
    return {
        (sample.name, sample.labels.get("name", "")): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
        if sample.name.startswith("pglisten_") and not sample.name.endswith("_created")
    }


def figures(name: str) -> dict[str, float]:
    """Return the values of one broadcaster that differ from 0."""
    return {figure: value for (figure, of), value in scrape().items() if of == name and value}


def test_they_follow_a_broadcaster_through_its_life(
    server: FakeServer, broadcaster: Broadcaster, name: str
) -> None:
    metrics.export(broadcaster, name=name)
    assert figures(name) == {}
    assert {figure for figure, of in scrape() if of == name} == BROADCASTER_FIGURES
    with broadcaster.subscribe("orders", queue_size=1, timeout=TIMEOUT) as subscription:
        idle = {"pglisten_started": 1, "pglisten_connected": 1, "pglisten_subscriptions": 1}
        assert figures(name) == idle
        for payload in "123":
            broadcaster.notify("orders", payload, TIMEOUT)
        settle(broadcaster)
        counted = idle | {
            "pglisten_notifications_received_total": 3,
            "pglisten_subscription_notifications_dropped_total": 2,
        }
        # A counter gets each notification once, however often it is written.
        for _ in range(3):
            assert figures(name) == counted
        server.stop()
        with gevent.Timeout(TIMEOUT):
            while not broadcaster.stats().failed_attempts:
                gevent.sleep(0.001)
        away = figures(name)
        assert "pglisten_connected" not in away
        assert away["pglisten_started"] == 1
        assert away["pglisten_disconnected_seconds"] > 0
        assert away["pglisten_failed_attempts_total"] >= 1
        server.start()
        broadcaster.wait_connected(TIMEOUT)
        assert figures(name)["pglisten_reconnects_total"] == 1
        assert subscription.channels == {"orders"}
    broadcaster.close()
    assert not [figure for figure, of in scrape() if of == name]


def test_a_started_broadcaster_writes_without_being_asked_and_counts_only_functions_of_on(
    broadcaster: Broadcaster, name: str
) -> None:
    @broadcaster.on("orders")
    def consume(notification: object) -> None:
        raise AssertionError

    metrics.export(broadcaster, name=name, interval=0.001)
    value = REGISTRY.get_sample_value
    broadcaster.start()
    with gevent.Timeout(TIMEOUT):
        while value("pglisten_connected", {"name": name}) != 1:
            gevent.sleep(0.001)
    assert broadcaster.stats().consumers == value("pglisten_consumers", {"name": name}) == 1
    # Closing it removes them, without a scrape.
    broadcaster.close()
    assert value("pglisten_connected", {"name": name}) is None
    assert value("pglisten_notifications_received_total", {"name": name}) is None


def test_a_scrape_in_another_thread_leaves_the_writing_to_the_broadcasters(
    broadcaster: Broadcaster, name: str
) -> None:
    metrics.export(broadcaster, name=name)
    broadcaster.wait_connected(TIMEOUT)
    in_thread = gevent.get_hub().threadpool.apply
    assert in_thread(figures, (name,)) == {}
    assert figures(name) == in_thread(figures, (name,)) == {"pglisten_started": 1, "pglisten_connected": 1}


def test_each_broadcaster_has_its_own_name_and_a_closed_one_gives_it_back(
    server: FakeServer, broadcaster: Broadcaster, name: str
) -> None:
    metrics.export(broadcaster, name=name)
    with make_fake(server) as other:
        with pytest.raises(ConfigurationError, match="another name") as caught:
            metrics.export(other, name=name)
        assert caught.value.option == "name"
        metrics.export(other, name=f"{name}-other")
        other.wait_connected(TIMEOUT)
        assert figures(name) == {}
        assert figures(f"{name}-other")["pglisten_connected"] == 1
    broadcaster.close()
    with make_fake(server) as successor:
        metrics.export(successor, name=name)
        assert figures(name) == {}
    with pytest.raises(ListenerClosed):
        metrics.export(successor, name=name)


def _log_of_another(server: FakeServer) -> EventLog:
    return EventLog("events", make_fake(server))


@pytest.mark.parametrize(
    ("arguments", "options", "option"),
    [
        ((), {"name": ""}, "name"),
        ((), {"name": 1}, "name"),
        ((), {"interval": 0}, "interval"),
        ((), {"log_interval": float("nan")}, "log_interval"),
        ((_log_of_another,), {}, "logs"),
    ],
)
def test_a_wrong_argument_is_refused(
    server: FakeServer,
    broadcaster: Broadcaster,
    arguments: tuple[Callable[[FakeServer], object], ...],
    options: Any,
    option: str,
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        metrics.export(broadcaster, *(make(server) for make in arguments), **options)  # type: ignore[arg-type]
    assert caught.value.option == option
    assert all(each._broadcaster is not broadcaster for each in exporters())


def test_names_and_labels_keep_prometheus_rules() -> None:
    for figure in COUNTERS:
        assert re.fullmatch(r"pglisten_[a-z_]+_total", figure.name)
    for gauge in (*GAUGES, *LOG_GAUGES):
        assert re.fullmatch(r"pglisten_[a-z_]+(?<!_total)", gauge.name)
        assert "time" not in gauge.help.lower() or gauge.name.endswith("_seconds")
    assert {label for figure in LOG_GAUGES for label in figure.labels} == {"name", "log", "consumer"}


def test_the_dashboard_and_the_page_name_the_figures_that_there_are() -> None:
    dashboard = json.loads((ROOT / "examples" / "grafana.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    used = {found for query in queries for found in re.findall(r"\bpglisten_\w+", query)}
    assert used == ALL_FIGURES
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\bpglisten_\w+", page)) == ALL_FIGURES


def test_a_folder_for_many_processes_that_is_not_there_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "missing"))
    with (
        make_fake(FakeServer()) as broadcaster,
        pytest.raises(ConfigurationError, match="missing is no folder"),
    ):
        metrics.export(broadcaster, name=name)
