"""Connection strings as ORMs write them lead where libpq's own lead."""

from __future__ import annotations

import pytest
import sqlalchemy

from pglisten import Broadcaster, ConfigurationError, Listener, ListenerConnection
from pglisten._conninfo import ConnInfo
from pglisten._conninfo.urls import Dsn
from pglisten.testing import FakeBackend, FakeServer

PASSWORD = "a b+c/d@e%f#g:h'i\\j"


def _values(dsn: Dsn) -> tuple[dict[str, str], list[str]]:
    info = ConnInfo.parse(dsn, {})
    return info.values(), [target.description for target in info.targets()]


@pytest.mark.parametrize("scheme", ["postgresql+psycopg2", "postgresql+asyncpg", "postgres+x", "postgres"])
def test_the_name_of_a_driver_is_left_out(scheme: str) -> None:
    assert _values(f"{scheme}://app:pw@db:6000/shop?sslmode=disable") == _values(
        "postgresql://app:pw@db:6000/shop?sslmode=disable"
    )


def test_a_password_is_taken_as_it_is_written() -> None:
    url = sqlalchemy.URL.create("postgresql+psycopg", "app", PASSWORD, "db", 6000, "shop")
    for dsn in (url, url.render_as_string(hide_password=False)):
        assert ConnInfo.parse(dsn, {}).password == PASSWORD


def test_an_url_object_is_taken_wherever_a_connection_string_is() -> None:
    url = sqlalchemy.URL.create("postgresql+psycopg2", "app", "s3cret", "10.0.0.1", 6000, "shop")
    for make in (Listener, Broadcaster, ListenerConnection):
        with make(url, backend=FakeBackend(FakeServer())) as made:
            assert "s3cret" not in repr(made)


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({"host": ("a:1", "b:2")}, ["a:1/shop", "b:2/shop"]),
        ({"host": ("a", "b:2")}, ["a:5432/shop", "b:2/shop"]),
        ({"host": ("a", "b")}, ["a:5432/shop", "b:5432/shop"]),
        ({"host": "a,b", "port": "1,2"}, ["a:1/shop", "b:2/shop"]),
        ({"host": "/run/pg"}, ["/run/pg:5432/shop"]),
    ],
)
def test_several_hosts_are_those_that_sqlalchemy_writes(
    query: dict[str, str | tuple[str, ...]], places: list[str]
) -> None:
    url = sqlalchemy.URL.create("postgresql+psycopg2", "app", database="shop", query=query)
    assert _values(url)[1] == places


def test_ports_in_two_places_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="ports in host= and in port="):
        ConnInfo.parse("postgresql+psycopg2://app@/shop?host=a:1&host=b:2&port=3", {})


@pytest.mark.parametrize("option", ["ssl_context", "prepared_statement_cache_size", "pgbouncer", "charset"])
def test_what_another_driver_alone_knows_is_refused_by_name(option: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown keyword, {option}: .*driver"):
        ConnInfo.parse(f"postgresql+asyncpg://app@db/shop?{option}=1", {})


def test_what_is_no_connection_string_is_refused() -> None:
    for wrong in (None, 5, b"host=db"):
        with pytest.raises(ConfigurationError, match="write a string"):
            Listener(wrong, backend=FakeBackend(FakeServer()))  # type: ignore[arg-type]


def test_a_session_is_called_pglisten_unless_something_else_says_what_it_is() -> None:
    assert ConnInfo.parse("", {})["fallback_application_name"] == "pglisten"
    assert ConnInfo.parse("fallback_application_name=shop", {})["fallback_application_name"] == "shop"
    for dsn in ("application_name=shop", "options='-c application_name=shop'"):
        assert ConnInfo.parse(dsn, {})["fallback_application_name"] == ""
