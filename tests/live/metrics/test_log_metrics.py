"""The position of an event log and the lags of its consumers, as a started broadcaster writes them."""

from __future__ import annotations

import itertools
import logging

import gevent
import pytest
from prometheus_client import REGISTRY

from pglisten import EventLog, metrics
from pglisten.testing import Proxy
from support.fixtures.eventlogs import MakeLog
from support.servers.server import Server
from support.timeouts import TIMEOUT

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """Return a name of its own for each test: the registry is that of the process."""
    return f"log{next(_numbers)}"


def _lag(name: str, schema: str, consumer: str) -> float | None:
    labels = {"name": name, "log": f"{schema}.events", "consumer": consumer}
    return REGISTRY.get_sample_value("pglisten_log_consumer_lag", labels)


def _position(name: str, schema: str) -> float | None:
    return REGISTRY.get_sample_value("pglisten_log_position", {"name": name, "log": f"{schema}.events"})


def _wait_lags(name: str, schema: str, **wanted: float | None) -> None:
    with gevent.Timeout(TIMEOUT, AssertionError("the lags never came to that")):
        while {consumer: _lag(name, schema, consumer) for consumer in wanted} != wanted:
            gevent.sleep(0.005)


def test_the_lag_of_each_consumer_follows_the_tables(
    make_log: MakeLog, server: Server, log_schema: str, name: str
) -> None:
    log = make_log()
    metrics.export(log._broadcaster, log, name=name, interval=0.005, log_interval=0.005)
    log._broadcaster.start()
    log._broadcaster.wait_connected(TIMEOUT)
    server.query(
        f"INSERT INTO {log_schema}.events (channel, payload) SELECT 'c', '' FROM generate_series(1, 9)"
    )
    server.query(f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('mail', 4), ('new', 0)")
    _wait_lags(name, log_schema, mail=5, new=9)
    assert _position(name, log_schema) == 9
    # What was trimmed is no lag: nothing can be consumed of it.
    log.trim(keep=2, timeout=TIMEOUT)
    server.query(f"DELETE FROM {log_schema}.events_consumer WHERE name = 'mail'")
    _wait_lags(name, log_schema, mail=None, new=2)
    log._broadcaster.close()
    _wait_lags(name, log_schema, new=None)
    assert _position(name, log_schema) is None


def test_nothing_is_asked_while_disconnected_and_the_last_figures_stay(
    log_behind_proxy: tuple[EventLog, Proxy],
    server: Server,
    log_schema: str,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    log, proxy = log_behind_proxy
    broadcaster = log._broadcaster
    server.query(f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('mail', 0)")
    metrics.export(broadcaster, log, name=name, interval=0.005, log_interval=0.005)
    broadcaster.start()
    gevent.idle()
    assert proxy.links == 0, "the writer has connected a broadcaster that is not used"
    broadcaster.wait_connected(TIMEOUT)
    _wait_lags(name, log_schema, mail=0)
    proxy.refuse()
    proxy.cut()
    with gevent.Timeout(TIMEOUT):
        while REGISTRY.get_sample_value("pglisten_failed_attempts_total", {"name": name}) in (None, 0):
            gevent.sleep(0.005)
    assert _lag(name, log_schema, "mail") == 0
    assert REGISTRY.get_sample_value("pglisten_connected", {"name": name}) == 0
    server.query(f"INSERT INTO {log_schema}.events (channel, payload) VALUES ('c', '')")
    proxy.accept()
    _wait_lags(name, log_schema, mail=1)
    # A log that has lost its state, or that the server refuses, is logged once, and everything else goes on.
    caplog.clear()
    with caplog.at_level(logging.WARNING, "pglisten"):
        ((*state,),) = server.query(f"DELETE FROM {log_schema}.events_state RETURNING *")
        with gevent.Timeout(TIMEOUT):
            while not caplog.records:
                gevent.sleep(0.005)
        places = ", ".join(["%s"] * len(state))
        server.query(f"INSERT INTO {log_schema}.events_state VALUES ({places})", *state)
        server.query(f"INSERT INTO {log_schema}.events (channel, payload) VALUES ('c', '')")
        _wait_lags(name, log_schema, mail=2)
    (record,) = caplog.records
    assert "no figures of event log" in record.message
    assert record.name == "pglisten.metrics"
