"""One typing mistake in a connection string: the password appears neither in a refusal nor later."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from pglisten._conninfo import ConnInfo
from pglisten._conninfo.dsn import keyword_string
from pglisten.errors import ConfigurationError
from support.fixtures.secrets import MARK, PASSWORDS

SETTINGS = {"host": "db", "port": "5432", "user": "app", "dbname": "shop"}

TYPED = ("", *" ;@:/'=&?,%\\[x")
"""Texts typed instead of a character, or before it."""


def _right(password: str) -> Iterator[str]:
    encoded = quote(password, safe="")
    yield keyword_string({**SETTINGS, "password": password})
    yield keyword_string({"password": password, **SETTINGS})
    yield f"postgresql://app:{encoded}@db:5432/shop?sslmode=prefer"
    yield f"postgresql://db:5432/shop?user=app&password={encoded}&sslmode=prefer"
    yield f"postgresql://db,db2/shop?password={encoded}&user=app"


def _slips(dsn: str) -> Iterator[str]:
    first, last = dsn.index(MARK), dsn.rindex(MARK) + len(MARK)
    for at in (*range(first + 1), *range(last, len(dsn) + 1)):
        for typed in TYPED:
            yield dsn[:at] + typed + dsn[at:]
            # Without the colon, the text before the @ of a URI is a user's name.
            if not dsn[at:].startswith(f":{MARK}"):
                yield dsn[:at] + typed + dsn[at + 1 :]


@pytest.mark.parametrize("name", PASSWORDS)
def test_a_slip_shows_nothing_of_the_password(name: str) -> None:
    for right in _right(PASSWORDS[name]):
        for dsn in _slips(right):
            assert MARK not in _shown(dsn), dsn


def _shown(dsn: str) -> str:
    """Return every text that a DSN, right or wrong, can appear in."""
    try:
        info = ConnInfo.parse(dsn, {})
    except ConfigurationError as error:
        return f"{error} {error!r} {error.__cause__!r}"
    return f"{info!r} {info.password_source} {[target.description for target in info.targets()]}"


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("host=db;user=app;password=x", "host contains password=: separate settings by a blank"),
        ("host=db,Pwd=x", "host contains password="),
        ("user=apppassword=x host=db", "user contains password="),
        ("dbname='shop passwd = x'", "dbname contains password="),
        ("postgresql://db/shop;password=x", "dbname contains password="),
        ("sslmode=prefer;password=x", "sslmode contains password="),
        ("dbname=postgresql://app:x@db/shop", "dbname is a URI"),
        ("service=postgres://app:x@db/shop", "service is a URI"),
        ("hostaddr=app:x@127.0.0.1", "hostaddr contains an @"),
    ],
)
def test_a_setting_that_holds_a_password_as_well_is_refused_by_its_name(dsn: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConnInfo.parse(dsn, {})
    assert str(caught.value).startswith(message)


def test_so_is_a_variable_and_what_may_hold_anything_is_not() -> None:
    with pytest.raises(ConfigurationError, match="PGDATABASE is a URI"):
        ConnInfo.parse("", {"PGDATABASE": "postgresql://app:x@db/shop"})
    info = ConnInfo.parse("password='password=x' options='-c app.password=x'", {})
    assert info.password == "password=x"
