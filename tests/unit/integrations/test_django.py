"""What ``pglisten.django.dsn`` makes of a project's DATABASES, with Django's own settings."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from pglisten._conninfo import ConnInfo

pytest.importorskip("psycopg2", reason="Django's PostgreSQL backend needs a driver")

PROGRAM = """
import json, sys
from django.conf import settings
settings.configure(DATABASES=json.loads(sys.argv[1]))
import pglisten.django
try:
    print(json.dumps(["dsn", pglisten.django.dsn(*sys.argv[2:])]))
except pglisten.ConfigurationError as error:
    print(json.dumps(["error", str(error)]))
"""
"""In a process of its own: a process has one configuration."""

ENGINE = "django.db.backends.postgresql"


def _asked(databases: dict[str, dict[str, Any]], *alias: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(databases), *alias],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kind, text = json.loads(done.stdout)
    return kind, text


def _dsn(**settings: Any) -> ConnInfo:
    kind, text = _asked({"default": {"ENGINE": ENGINE, **settings}})
    assert kind == "dsn", text
    return ConnInfo.parse(text, {})


def _refusal(databases: dict[str, dict[str, Any]], *alias: str) -> str:
    kind, text = _asked(databases, *alias)
    assert kind == "error"
    return text


def test_every_setting_is_taken() -> None:
    password = "it's a\\ pä$$"
    info = _dsn(NAME="shop", USER="app", PASSWORD=password, HOST="db1", PORT=6000)
    assert (info.dbname, info.user, info.password, info.description) == (
        "shop",
        "app",
        password,
        "db1:6000/shop",
    )


def test_options_are_libpqs_and_those_for_queries_are_left_out() -> None:
    options = {
        "sslmode": "disable",
        "application_name": "shop",
        "connect_timeout": 3,
        "pool": {"min_size": 2},
        "isolation_level": 3,
        "assume_role": "writer",
        "server_side_binding": True,
    }
    info = _dsn(NAME="shop", USER="app", OPTIONS=options)
    assert (info.sslmode, info["application_name"], info.connect_timeout) == ("disable", "shop", 3.0)


def test_a_password_file_is_passed_on() -> None:
    assert (
        _dsn(NAME="shop", USER="app", OPTIONS={"passfile": "/etc/shop/pgpass"}).passfile == "/etc/shop/pgpass"
    )


def test_a_service_may_be_all_there_is() -> None:
    kind, text = _asked({"default": {"ENGINE": ENGINE, "OPTIONS": {"service": "shop"}}})
    assert (kind, text) == ("dsn", "service=shop")


def test_no_name_is_djangos_default() -> None:
    assert _dsn(NAME=None, USER="app").dbname == "postgres"


def test_another_database_is_chosen_by_its_alias() -> None:
    databases = {"default": {"ENGINE": ENGINE, "NAME": "a"}, "events": {"ENGINE": ENGINE, "NAME": "b"}}
    assert _asked(databases, "events") == ("dsn", "dbname=b")


def test_what_cannot_work_is_refused() -> None:
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    assert _refusal(databases) == "settings.DATABASES['default'] is sqlite, not PostgreSQL"
    assert _refusal(databases, "events") == "settings.DATABASES has no 'events'; known are default"
    options = {"default": {"ENGINE": ENGINE, "NAME": "shop", "OPTIONS": {"cursors": "many"}}}
    assert "has cursors, which is no keyword of libpq's" in _refusal(options)
