"""Each difference from lib/pq in docs/lib-pq.md has tests, and these tests exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
TEST = re.compile(r"`(?P<path>tests/[\w/]+\.py)::(?P<name>\w+)`")


def _rows(heading: str) -> dict[str, list[str]]:
    """Return the numbered rows of the table below *heading*, by their numbers."""
    section = (ROOT / "docs" / "lib-pq.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = section.partition("\n## ")[0].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if re.match(r"\| \d", line)]
    return {number: cells for number, *cells in rows}


def test_the_differences_are_numbered_in_order_and_say_what_each_library_does() -> None:
    rows = _rows("Where pglisten differs on purpose")
    assert list(rows) == [str(number) for number in range(1, 19)]
    assert {len(cells) for cells in rows.values()} == {2}


def test_every_difference_names_tests_and_each_of_them_exists() -> None:
    rows = _rows("The tests")
    assert list(rows) == list(_rows("Where pglisten differs on purpose"))
    for number, (named,) in rows.items():
        found = list(TEST.finditer(named))
        assert found, number
        assert ", ".join(match[0] for match in found) == named, number
        for match in found:
            text = (ROOT / match["path"]).read_text(encoding="utf-8")
            assert re.search(rf"^ *def {match['name']}\(", text, re.MULTILINE), match[0]
