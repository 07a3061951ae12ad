"""A function in place of a connection string is asked for each attempt, and never trusted to be quick."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event

from pglisten import ConfigurationError, ConnectionFailed, Listener, ListenerConnection, OperationTimeout
from pglisten._connection.target import Target
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT
from support.timing import wait_for_a_failed_attempt


def _target(function: Any, timeout: float | None = TIMEOUT) -> Target:
    return Target(function, FakeBackend(FakeServer()), timeout)


def test_it_is_called_anew_for_each_attempt() -> None:
    answers = iter(["user=a password=1 host=10.0.0.1", "user=b host=10.0.0.2,10.0.0.3 connect_timeout=3"])
    target = _target(lambda: next(answers))
    first, limit = target.current()
    assert (first.user, first.password, limit) == ("a", "1", TIMEOUT)
    second, limit = target.current()
    assert (second.user, len(second.targets()), limit) == ("b", 2, 3.0)


def test_it_is_not_called_before_the_first_attempt() -> None:
    called: list[None] = []
    assert "<lambda>" in repr(_target(lambda: called.append(None)))
    assert called == []


def test_what_it_raises_is_a_failed_attempt_with_that_as_its_cause() -> None:
    def tokens() -> str:
        password = "Qzxv"
        raise LookupError("no token for " + password[:0] + "app")

    with pytest.raises(ConnectionFailed, match=r"tokens failed: LookupError: no token for app") as caught:
        _target(tokens).current()
    cause = caught.value.__cause__
    assert isinstance(cause, LookupError)
    assert cause.__traceback__ is None


@pytest.mark.parametrize("wrong", [None, 5, "host='", "nonsense=1 host=db", "postgresql://db:port/"])
def test_what_it_returns_is_checked(wrong: object) -> None:
    with pytest.raises(ConnectionFailed, match="returned what cannot work: ") as caught:
        _target(lambda: wrong).current()
    assert caught.value.__cause__ is None


def test_one_that_waits_too_long_is_a_failed_attempt_and_ended() -> None:
    ended = Event()

    def slow() -> str:
        try:
            gevent.sleep(TIMEOUT)
        finally:
            ended.set()
        return ""

    with pytest.raises(ConnectionFailed, match=r"slow did not return within 0\.01 s"):
        _target(slow, 0.01).current()
    assert ended.wait(TIMEOUT)


def test_a_killed_caller_ends_it() -> None:
    begun, ended = Event(), Event()

    def endless() -> str:
        begun.set()
        try:
            Event().wait()
        finally:
            ended.set()
        return ""

    caller = gevent.spawn(_target(endless, None).current)
    assert begun.wait(TIMEOUT)
    caller.kill(timeout=TIMEOUT)
    assert ended.wait(TIMEOUT)


def test_a_listener_goes_on_after_its_failures(caplog: pytest.LogCaptureFixture) -> None:
    failures = iter([OSError("the vault is sealed")])

    def dsn() -> str:
        for failure in failures:
            raise failure
        return "host=127.0.0.1 user=app password=Qzxv"

    caplog.set_level(logging.DEBUG, "pglisten.listener")
    with Listener(dsn, backend=FakeBackend(FakeServer()), min_reconnect_interval=0.001) as listener:
        listener.listen("orders", timeout=TIMEOUT)
        assert listener.stats().failed_attempts == 1
        assert "Qzxv" not in repr(listener)
    assert "the vault is sealed" in caplog.text
    assert "Qzxv" not in caplog.text


def test_close_ends_it_and_a_wait_says_why() -> None:
    with Listener(lambda: 1 / 0, backend=FakeBackend(FakeServer())) as listener:  # type: ignore[arg-type,return-value]
        wait_for_a_failed_attempt(listener)
        with pytest.raises(OperationTimeout) as caught:
            listener.wait_connected(timeout=0)
        assert isinstance(caught.value.__cause__, ConnectionFailed)
        assert isinstance(caught.value.__cause__.__cause__, ZeroDivisionError)


def test_a_connection_without_a_listener_asks_too() -> None:
    with ListenerConnection(lambda: "user=app", backend=FakeBackend(FakeServer())) as connection:
        connection.listen("orders", timeout=TIMEOUT)


def made_for_configurations() -> str:
    return "host=127.0.0.1 user=app"


def test_a_configuration_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"PGLISTEN_DSN": f"{__name__}:made_for_configurations"}
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("sys").modules[__name__])
    with Listener.from_config(config, backend=FakeBackend(FakeServer())) as listener:
        listener.listen("orders", timeout=TIMEOUT)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "no_such_module_Qzxv:dsn",
            r"PGLISTEN_DSN has the form .* cannot be imported \(ModuleNotFoundError\)",
        ),
        ("os:Qzxv", r"PGLISTEN_DSN has the form .* cannot be imported \(AttributeError\)"),
        ("os:sep", "PGLISTEN_DSN names a str, not a function"),
    ],
)
def test_a_name_that_leads_to_no_function_is_refused(value: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        Listener.from_config({"PGLISTEN_DSN": value})
    assert "Qzxv" not in str(caught.value)
