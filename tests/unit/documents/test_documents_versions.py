"""The overview's table of versions begins where pyproject.toml does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
OVERVIEW = (ROOT / "docs" / "overview.md").read_text(encoding="utf-8")
ROWS: dict[str, tuple[str, str]] = {
    name: (oldest, newest)
    for name, oldest, newest in re.findall(r"^\| (\w+) \| ([\d.]+) to ([\d.]+) \|", OVERVIEW, re.MULTILINE)
}


def test_it_has_the_pythons_that_are_declared() -> None:
    declared = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', PROJECT)
    assert ROWS["Python"] == (declared[0], declared[-1])


@pytest.mark.parametrize(
    ("name", "requirement"),
    [
        ("gevent", "gevent"),
        ("psycopg2", "psycopg2-binary"),
        ("psycopg", r"psycopg\[binary\]"),
        ("pg8000", "pg8000"),
    ],
)
def test_it_begins_with_the_oldest_that_is_allowed(name: str, requirement: str) -> None:
    allowed = re.search(rf'^(?:dependencies|{name}) = \["{requirement}>=([\d.]+)"\]$', PROJECT, re.MULTILINE)
    assert allowed is not None
    assert ROWS[name][0] == allowed[1]


def test_gunicorn_is_tested_from_the_version_that_the_tests_ask_for() -> None:
    asked = re.search(r'^  "gunicorn>=([\d.]+)",$', PROJECT, re.MULTILINE)
    assert asked is not None
    assert ROWS["gunicorn"][0] == asked[1]
