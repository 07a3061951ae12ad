"""The kinds of configuration, and the connection string and the backend in them."""

from __future__ import annotations

import itertools
import os
import traceback
import types
from collections.abc import Iterator
from typing import Any

import django.conf
import flask
import pytest

from pglisten import BackendNotFound, Broadcaster, ConfigurationError, Listener
from pglisten.testing import FakeBackend
from support.config import BACKEND, SECRET, options, refusal

# Where configurations come from


def test_the_environment_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGLISTEN_QUEUE_SIZE", "7")
    monkeypatch.setenv("PGLISTEN_TEST_REQUIRE", "tls")
    assert options(os.environ) == {"queue_size": 7}


def test_flasks_configuration_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_PGLISTEN_QUEUE_SIZE", "7")
    application = flask.Flask("made_up")
    application.config.from_prefixed_env()
    application.config["PGLISTEN_BACKEND"] = BACKEND
    assert options(application.config) == {"queue_size": 7, "backend": BACKEND}
    with application.app_context():
        assert options(flask.current_app.config) == {"queue_size": 7, "backend": BACKEND}


def test_djangos_settings_are_one() -> None:
    settings = django.conf.LazySettings()
    settings.configure(PGLISTEN_BACKEND=BACKEND, PGLISTEN_JITTER=0.5)
    assert options(settings) == {"backend": BACKEND, "jitter": 0.5}
    settings.PGLISTEN_JITER = 1
    assert refusal(settings).endswith("did you mean PGLISTEN_JITTER?")


def test_any_object_with_attributes_is_one() -> None:
    class Settings:
        PGLISTEN_QUEUE_SIZE = 7
        PGLISTEN_TEST_DSN = "another"
        DEBUG = True

    module = types.ModuleType("made_up_settings")
    module.PGLISTEN_QUEUE_SIZE = "7"  # type: ignore[attr-defined]
    for config in (Settings, Settings(), module):
        assert options(config) == {"queue_size": 7}


def test_what_is_made_works_and_is_of_the_class_that_was_asked() -> None:
    class Mine(Broadcaster):
        pass

    config: dict[str, Any] = {"PGLISTEN_BACKEND": BACKEND, "PGLISTEN_QUEUE_SIZE": "5"}
    with (
        Mine.from_config(config, jitter=0) as broadcaster,
        broadcaster.subscribe("x", timeout=5) as subscription,
    ):
        assert type(broadcaster) is Mine
        broadcaster.notify("x", "1", timeout=5)
        item = subscription.get(timeout=5)
        assert item is not None
        assert item.payload == "1"


# The connection string and the backend


@pytest.mark.parametrize(
    ("dsn", "complaint"),
    [
        (f"host=db passwort={SECRET}", "passwort"),
        (f"postgresql://u:{SECRET}@db:port/app", "port is not an integer"),
        (f"password={SECRET} connect_timeout=x", "connect_timeout is not an integer"),
        (f"{SECRET}\0", "NUL"),
    ],
)
def test_a_wrong_dsn_is_refused_by_its_key_and_never_shown(dsn: str, complaint: str) -> None:
    said = refusal({"PGLISTEN_DSN": dsn, "PGLISTEN_CONNECT_TIMEOUT": "5"})
    assert said.startswith("PGLISTEN_DSN: ")
    assert complaint in said


def test_a_wrong_pg_variable_is_not_blamed_on_the_dsn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "x")
    assert refusal({"PGLISTEN_DSN": "host=db"}).startswith("PGPORT is ")


def test_a_connection_string_in_place_of_a_configuration_is_refused_and_not_shown() -> None:
    for wrong in (f"postgresql://u:{SECRET}@db", SECRET.encode(), None, 5, [SECRET], (SECRET,), {SECRET}):
        said = refusal(wrong)
        assert said.startswith("from_config() takes a mapping")
        assert type(wrong).__name__ in said


def test_the_frames_of_an_error_do_not_hold_the_connection_string(monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings:
        PGLISTEN_DSN = f"host=db password={SECRET}"

    class Picky(FakeBackend):
        def check(self, conninfo: object) -> None:
            raise ConfigurationError("not with this driver")

    for other in ("PGLISTEN_JITTER", "PGLISTEN_QUEUE_SIZE", "PGLISTEN_HOST"):
        monkeypatch.setattr(Settings, other, "x", raising=False)
        cases: Iterator[tuple[Any, Any]] = itertools.product((Listener, Broadcaster), (BACKEND, Picky()))
        for made, backend in cases:
            with pytest.raises(ConfigurationError) as caught:
                made.from_config(Settings(), backend=backend)
            ours = [
                frame
                for frame, _ in traceback.walk_tb(caught.tb)
                if "pglisten" in frame.f_globals["__name__"]
            ]
            assert ours
            assert SECRET not in repr([frame.f_locals for frame in ours])
            assert caught.value.__context__ is None


def test_a_backend_that_is_not_there_is_refused_by_its_key_with_the_cause() -> None:
    for made in (Listener, Broadcaster):
        with pytest.raises(
            BackendNotFound, match=r"^PGLISTEN_BACKEND: there is no backend 'psycopg3'; known"
        ):
            made.from_config({"PGLISTEN_BACKEND": "psycopg3"})


@pytest.mark.parametrize("name", ["psycopg2", "psycopg", "pg8000"])
def test_one_value_switches_the_driver(name: str) -> None:
    pytest.importorskip(name)
    config = {"PGLISTEN_DSN": "host=127.0.0.1 port=1", "PGLISTEN_BACKEND": name}
    with Broadcaster.from_config(config) as broadcaster:
        assert broadcaster.backend == name
    with Listener.from_config(config) as listener:
        assert listener.backend == name


def test_without_the_key_the_variable_says_which_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGLISTEN_BACKEND", "no_such")
    with pytest.raises(BackendNotFound, match=r"^there is no backend 'no_such'"):
        Listener.from_config({"PGLISTEN_DSN": "host=db"})
