"""What a query for a page says, read from its row."""

from __future__ import annotations

import json

import pytest

from pglisten._eventlog import entry
from pglisten._eventlog.names import LogNames
from pglisten._eventlog.statements import PAGE_ROWS, newest_page, page_after

NAMES = LogNames("events")
MOMENT = "2026-01-02T03:04:05.06+00:00"


def row(*positions: int, found: int | None = None, last: str | None = None) -> list[tuple[str | None, ...]]:
    """Return the answer with entries at *positions*, the last of which has the long payload *last*."""
    many = len(positions)
    short = many - (last is not None)
    state = f"3 {many if found is None else found} 60 "
    fields = json.dumps([positions, ["c"] * many, ["a\n"] * short, [MOMENT] * many])
    return [(f"{state}\n{fields}\n{last or ''}",)]


@pytest.mark.parametrize("any_fraction", [True, False])
def test_entries_and_the_state_are_read(monkeypatch: pytest.MonkeyPatch, any_fraction: bool) -> None:
    monkeypatch.setattr(entry, "ANY_FRACTION", any_fraction and entry.ANY_FRACTION)
    page = page_after(NAMES, 4).read(row(5, 7))
    assert [(each.position, each.channel, each.payload) for each in page.entries] == [
        (5, "c", "a\n"),
        (7, "c", "a\n"),
    ]
    assert {each.created.isoformat() for each in page.entries} == {"2026-01-02T03:04:05.060000+00:00"}
    assert (page.reached, page.newest, page.trimmed, page.known) == (None, 7, 3, 60)


@pytest.mark.parametrize("moment", ["2026-01-02T03:04:05+00:00", "0001-01-01T00:00:00.1+00:00"])
def test_a_moment_is_padded_for_older_versions_of_python(moment: str) -> None:
    assert len(entry._padded(moment)) == len("2026-01-02T03:04:05.000000+00:00")
    assert entry._padded(moment).startswith(moment[:19])


def test_a_long_payload_is_the_last_one() -> None:
    page = page_after(NAMES, 4).read(row(5, 6, found=9, last="x\n" * 10))
    assert [each.payload for each in page.entries] == ["a\n", "x\n" * 10]
    assert page.reached == 6


def test_the_newest_come_in_order() -> None:
    page = newest_page(NAMES).read(row(9, 8, 6))
    assert [each.position for each in page.entries] == [6, 8, 9]


def test_no_entries_are_an_empty_page() -> None:
    page = page_after(NAMES, 4, head=4).read(row())
    assert (page.entries, page.reached, page.newest) == ([], None, 4)


def test_a_full_page_says_how_far_it_goes() -> None:
    assert page_after(NAMES, 0, limit=2).read(row(5, 7)).reached == 7
    assert page_after(NAMES, 0, limit=PAGE_ROWS + 1).limit == PAGE_ROWS


def test_queries_of_one_form_share_a_statement() -> None:
    names = [page_after(NAMES, number, channels="abcdefghijkl"[:number]).name for number in range(12)]
    assert names[9:] == [names[9]] * 3
    assert len(set(names)) == 10
    assert page_after(LogNames("others"), 0).name != names[0]
