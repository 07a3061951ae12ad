"""Links in the documents have existing targets, and the README's links also work on the package's page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
REPOSITORY = "https://github.com/pglisten/pglisten/"
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob(".github/**/*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*.md"),
    ]
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)|^\[[^\]]+\]: (\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE)


def _prose(path: Path) -> str:
    return FENCED.sub("", path.read_text(encoding="utf-8"))


def _links(path: Path) -> Iterator[str]:
    for match in LINK.finditer(CODE.sub("", _prose(path))):
        yield next(filter(None, match.groups()))


def _anchors(path: Path) -> set[str]:
    """Return the anchors of the headings in *path*, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _problem(path: Path, link: str) -> str | None:
    """Return what is wrong with *link*, or None. Links to other sites are not followed."""
    inside = link.removeprefix(REPOSITORY)
    if inside != link:
        kind, _, rest = inside.partition("/main/")
        if kind not in {"blob", "tree"}:
            return None
        target, _, anchor = rest.partition("#")
        there = ROOT / target
    elif re.match(r"[a-z]+:", link):
        return None
    else:
        target, _, anchor = link.partition("#")
        there = path.parent / target if target else path
    if not there.exists():
        return f"{there} does not exist"
    if anchor and anchor not in _anchors(there):
        return f"{there} has no heading {anchor!r}"
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_something_that_exists(path: Path) -> None:
    assert {link: problem for link in _links(path) if (problem := _problem(path, link))} == {}


def test_every_link_in_the_readme_is_absolute_for_the_page_of_the_package() -> None:
    links = list(_links(ROOT / "README.md"))
    assert len(links) > 8
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_every_picture_of_the_readme_is_there_and_small() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r"https://raw\.githubusercontent\.com/pglisten/pglisten/main/([^\s\"]+)", text)
    assert len(pictures) == 2
    assert {
        each: (ROOT / each).stat().st_size for each in pictures if (ROOT / each).stat().st_size > 150_000
    } == {}


def test_every_reference_in_the_readme_is_defined() -> None:
    text = CODE.sub("", _prose(ROOT / "README.md"))
    defined = set(re.findall(r"^\[([^\]]+)\]:", text, re.MULTILINE))
    used = set(re.findall(r"\[([^\]]+)\](?![(:\[])", text))
    assert used <= defined
