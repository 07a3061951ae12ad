"""The table in docs/lib-pq.md names a test for each of lib/pq's defects, and these tests are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEST = re.compile(r"`(?P<path>tests/[\w/]+\.py)::(?P<name>\w+)`")


def _rows() -> list[list[str]]:
    lines = (ROOT / "docs" / "lib-pq.md").read_text(encoding="utf-8").splitlines()
    return [line.strip("| ").split(" | ") for line in lines if re.match(r"\| \d", line)]


def test_there_are_sixteen_rows_in_order_and_each_has_its_four_columns() -> None:
    rows = _rows()
    assert [row[0] for row in rows] == [str(number) for number in range(1, 17)]
    assert {len(row) for row in rows} == {4}


def test_every_row_names_tests_and_every_test_that_is_named_is_there() -> None:
    for number, *_, named in _rows():
        found = list(TEST.finditer(named))
        assert found, number
        assert ", ".join(match[0] for match in found) == named, number
        for match in found:
            text = (ROOT / match["path"]).read_text(encoding="utf-8")
            assert re.search(rf"^ *def {match['name']}\(", text, re.MULTILINE), match[0]
