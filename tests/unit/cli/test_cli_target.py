"""Which connection string the options of a command and the environment make."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import gevent
import pytest
import sqlalchemy

from pglisten import ConnectionFailed
from pglisten._cli.arguments import parser
from pglisten._cli.target import dsn, fixed_dsn
from pglisten._connection.target import DsnFunction
from pglisten._conninfo import ConnInfo
from pglisten._conninfo.overrides import is_connection_string, with_settings
from pglisten._conninfo.urls import Dsn

BASE = "postgresql://app:pw@db:6000/shop?sslmode=disable"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGLISTEN_DSN", raising=False)


def _read(*options: str, command: tuple[str, ...] = ("listen", "orders")) -> argparse.Namespace:
    return parser(listen=None, notify=None, log=None, doctor=None, demo=None).parse_args([*command, *options])


def _place(found: Dsn | None) -> str:
    info = ConnInfo.parse(found, {})
    return f"{info.user}@{info.description}"


def _info(found: Dsn) -> ConnInfo:
    assert callable(found)
    return DsnFunction(found).ask(20)


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ([], "app@db:6000/shop"),
        (["-h", "other"], "app@other:6000/shop"),
        (["--host", "other", "--port", "1"], "app@other:1/shop"),
        (["-p", "1"], "app@db:1/shop"),
        (["-U", "me"], "me@db:6000/shop"),
        (["--username=me"], "me@db:6000/shop"),
        (["-d", "it's one"], "app@db:6000/it's one"),
        (["--dbname", "stock", "-hother", "-p1", "-Ume"], "me@other:1/stock"),
        (["-h", "a,b", "-p", "1,2"], "app@a:1,b:2/shop"),
        (["-h", "/run/pg"], "app@/run/pg:6000/shop"),
    ],
)
def test_an_option_replaces_a_part(monkeypatch: pytest.MonkeyPatch, options: list[str], place: str) -> None:
    monkeypatch.setenv("PGLISTEN_DSN", BASE)
    found = dsn(_read(*options))
    assert _place(found) == place
    assert (ConnInfo.parse(found, {}).password, ConnInfo.parse(found, {}).sslmode) == ("pw", "disable")
    monkeypatch.delenv("PGLISTEN_DSN")
    assert _place(dsn(_read("--dsn", BASE, *options))) == place


def test_a_connection_string_in_place_of_a_name_is_the_whole_and_comes_first_as_in_psql(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGLISTEN_DSN", "host=never user=never dbname=never")
    assert _place(dsn(_read("-d", BASE, "-h", "other", "-U", "me"))) == "app@db:6000/shop"
    assert (
        _place(dsn(_read("-d", "dbname=shop user=app", "-h", "other", "-U", "me"))) == "app@other:5432/shop"
    )


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("shop", False),
        ("", False),
        ("shop:5432", False),
        ("dbname=shop", True),
        ("postgresql://db", True),
        ("postgres://db", True),
        ("postgresql+psycopg2://db", True),
        ("mysql://db", False),
    ],
)
def test_what_counts_as_a_connection_string(text: str, is_one: bool) -> None:
    assert is_connection_string(text) is is_one


def test_the_address_of_a_host_goes_with_the_host() -> None:
    assert with_settings("host=a hostaddr=10.0.0.1 port=1", {"host": "b"}) == "host=b port=1"
    assert with_settings("host=a hostaddr=10.0.0.1", {"port": "2"}) == "host=a hostaddr=10.0.0.1 port=2"


@pytest.mark.parametrize("form", ["postgresql+psycopg2", "postgres", "postgresql", "postgresql+asyncpg"])
def test_the_urls_of_orms_are_taken(form: str) -> None:
    url = sqlalchemy.URL.create(form, "app", "a b@/:%", "db", 6000, "shop").render_as_string(
        hide_password=False
    )
    for options in (["--dsn", url], ["-d", url], ["--dsn", url, "-h", "db"]):
        found = dsn(_read(*options))
        assert _place(found) == "app@db:6000/shop"
        assert ConnInfo.parse(found, {}).password == "a b@/:%"


FUNCTIONS = """
import sqlalchemy

calls = []

def text():
    calls.append(1)
    return "host=db user=app password=pw dbname=shop"

def url():
    return sqlalchemy.URL.create("postgresql+psycopg", "app", "pw", "db", database="shop")

def waits():
    import gevent
    gevent.sleep(0.001)
    return text()

def fails():
    secret = text()
    raise LookupError("no such secret")

def nothing():
    return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current folder, which is not on the path."""
    (tmp_path / "made_up_secrets.py").write_text(FUNCTIONS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "made_up_secrets", raising=False)
    return "made_up_secrets"


@pytest.mark.parametrize("name", ["text", "url", "waits"])
def test_a_function_is_called_for_each_attempt_and_options_replace_parts_of_what_it_returns(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = dsn(_read("--dsn", f"{module}:{name}", "-p", "1"))
    monkeypatch.setenv("PGLISTEN_DSN", f"{module}:{name}")
    for each in (found, dsn(_read("-p", "1"))):
        for _ in range(2):
            assert _info(each).description == "db:1/shop"
    assert len(sys.modules[module].calls) == {"text": 4, "url": 0, "waits": 4}[name]


def test_a_function_that_fails_or_returns_nothing_is_a_failed_attempt(module: str) -> None:
    for name, message in {
        "fails": "failed: LookupError: no such secret",
        "nothing": "is of type NoneType",
    }.items():
        with pytest.raises(ConnectionFailed, match=f"the dsn function {module}:{name} .*{message}"):
            _info(dsn(_read("--dsn", f"{module}:{name}", "-h", "db")))


def test_a_function_that_blocks_does_not_block_the_command(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_up_blocking.py").write_text(
        "import threading\nrelease = threading.Event()\ndef blocks(): release.wait(20)\n"
    )
    found = dsn(_read("--dsn", "made_up_blocking:blocks"))
    assert callable(found)
    with pytest.raises(ConnectionFailed, match=r"made_up_blocking:blocks did not return within 0\.05 s"):
        DsnFunction(found).ask(0.05)
    sys.modules["made_up_blocking"].release.set()
    gevent.idle()


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (["--dsn", BASE], "app@db:6000/shop"),
        (["-d", BASE], "app@db:6000/shop"),
        (["-h", "other", "-U", "me", "-d", "x"], "me@other:5432/x"),
        (["--dsn", BASE, "-p", "1"], "app@db:1/shop"),
    ],
)
def test_the_demo_uses_a_server_only_if_an_option_names_it(
    monkeypatch: pytest.MonkeyPatch, options: list[str], place: str
) -> None:
    monkeypatch.setenv("PGLISTEN_DSN", "host=never")
    assert _place(fixed_dsn(_read(*options, command=("demo",)))) == place
    assert fixed_dsn(_read("--web-port", "1", command=("demo",))) is None
