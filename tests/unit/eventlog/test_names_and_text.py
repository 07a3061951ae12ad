"""The names of a log, and the statements for other people's cursors."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pglisten import ConfigurationError
from pglisten._eventlog.cursors import runner, sqlstate
from pglisten._eventlog.names import LogNames
from pglisten._eventlog.schema import create_sql, drop_sql
from pglisten._eventlog.writing import append_template


def test_names_are_quoted_and_qualified() -> None:
    names = LogNames('a"b', "S")
    assert (names.entries, names.view) == ('"S"."a""b"', '"S"."a""b_log"')
    assert names.bell == 'pglisten:S.a"b'
    assert str(LogNames("a\nb")) == "public.a\\nb"


def test_a_bell_that_is_too_long_is_a_digest() -> None:
    first, second = (LogNames("é" * 20, schema=schema).bell for schema in ("s" * 63, "t" * 63))
    assert re.fullmatch("pglisten:[0-9a-f]{32}", first)
    assert first != second
    assert LogNames("x" * 40, "y" * 13).bell == "pglisten:" + "y" * 13 + "." + "x" * 40


@pytest.mark.parametrize("wrong", ["", "x" * 41, "é" * 21, "a\0b", "\ud800", None, 17, b"events"])
def test_wrong_names_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="name is text of 1 to 40 bytes") as caught:
        LogNames(wrong)
    assert caught.value.option == "name"
    if wrong not in ("x" * 41, "é" * 21):
        with pytest.raises(ConfigurationError, match="schema is text of 1 to 63 bytes") as caught:
            LogNames("events", wrong)
        assert caught.value.option == "schema"


def test_a_dot_belongs_to_no_name() -> None:
    with pytest.raises(ConfigurationError, match=r"no dot, not 'shop\.s\.ev': give a schema by") as caught:
        LogNames("shop.s.ev")
    assert caught.value.option == "name"


@pytest.mark.parametrize("sql", [create_sql(LogNames("events")), drop_sql(LogNames("events"))])
def test_statements_hold_nothing_that_is_taken_for_a_parameter(sql: str) -> None:
    assert "%" not in sql
    assert "?" not in sql
    # SQLAlchemy's text() takes a colon and a name for a parameter, unless a letter is before it.
    assert not re.search(r"(?<![:\w\\]):\w", sql)


class Cursor:
    """Records what it is told to execute."""

    description = None

    def __init__(self) -> None:
        self.executed: list[tuple[Any, ...]] = []

    def execute(self, *arguments: Any) -> None:
        self.executed.append(arguments)


def test_values_are_parameters_and_percent_signs_are_doubled_where_there_are_some() -> None:
    cursor = Cursor()
    run = runner(cursor)
    run(append_template(LogNames("100%")), ("c", "secret"))
    run("SELECT '100%%'", ())
    assert cursor.executed == [
        ('INSERT INTO "public"."100%%" (channel, payload) VALUES (%s, %s)', ("c", "secret")),
        ("SELECT '100%'",),
    ]


def test_sqlstates_are_found_in_the_errors_of_all_drivers() -> None:
    class OfPsycopg(Exception):
        sqlstate = "40001"

    class OfPsycopg2(Exception):
        pgcode = "40P01"

    assert sqlstate(OfPsycopg()) == "40001"
    assert sqlstate(OfPsycopg2()) == "40P01"
    assert sqlstate(Exception({"C": "42P01", "M": "no table"})) == "42P01"
    of_an_orm = Exception("of an ORM")
    of_an_orm.__cause__ = OfPsycopg()
    assert sqlstate(of_an_orm) == "40001"
    assert sqlstate(ValueError("no")) is None
    assert sqlstate(ValueError()) is None
