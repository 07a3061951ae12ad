"""The code that docs/backends.md shows is the code of the backends, line for line."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
EXCERPT = re.compile(r"^<!-- from (?P<path>\S+) -->\n```py\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)
EXCERPTS = [(match["path"], match["code"]) for match in EXCERPT.finditer(PAGE)]


def _lines(code: str) -> str:
    """Return *code* without its indentation, so that it is found at any depth."""
    return textwrap.dedent(code).strip("\n")


@pytest.mark.parametrize(("path", "code"), EXCERPTS)
def test_every_excerpt_is_in_its_file(path: str, code: str) -> None:
    source, at = (ROOT / path).read_text(encoding="utf-8").splitlines(), 0
    for part in re.split(r"^\.\.\.\n", code, flags=re.MULTILINE):
        wanted = _lines(part)
        size = len(wanted.splitlines())
        places = range(at, len(source) - size + 1)
        # In the order of the file.
        at = next((n for n in places if _lines("\n".join(source[n : n + size])) == wanted), -1)
        assert at >= 0, f"{path} does not have\n{wanted}"


def test_every_block_of_code_that_does_not_run_is_an_excerpt() -> None:
    assert len(EXCERPTS) == PAGE.count("```py\n") >= 6
