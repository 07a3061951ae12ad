"""The guide lists every logger with every level that it uses."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[3]
LOGGER = re.compile(r'^logger = logging\.getLogger\("([\w.]+)"\)$', re.MULTILINE)
CALL = re.compile(r"\blogger\.(debug|info|warning|error|exception)\(")


def _in_the_code() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for path in (*ROOT.glob("pglisten/**/*.py"), *ROOT.glob("backends/**/*.py")):
        text = path.read_text(encoding="utf-8")
        for name in LOGGER.findall(text):
            found[name].update(level.replace("exception", "error").upper() for level in CALL.findall(text))
    return dict(found)


def _in_the_guide() -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    section = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8").partition("## Logs")[2]
    name = ""
    for logger, level in re.findall(r"^\| ([^|]*)\| ([A-Z]+) \|", section, re.MULTILINE):
        name = logger.strip(" `") or name
        found[name].add(level)
    return dict(found)


def test_the_table_of_loggers_is_complete() -> None:
    assert len(_in_the_code()) >= 6
    assert _in_the_guide() == _in_the_code()


def test_the_contributors_page_names_each_of_them() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [
        name
        for name in _in_the_code()
        if f"`{name.removeprefix('pglisten')}`" not in text.replace("`pglisten.", "`.")
    ] == []
