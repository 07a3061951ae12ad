"""Sentences name their actors: the caller, a consumer, the worker, the server, never an unnamed person."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
KINDS = ("pglisten/**/*.py", "backends/**/*.py", "docs/**/*.md", "examples/*", "*.md", ".github/**/*.*")
PLAIN = [path for kind in KINDS for path in ROOT.glob(kind) if path.is_file()]
VAGUE = re.compile(
    # In quotes it is the system's user of that name.
    r"(?<!\")\b(?:nobody|somebody|anybody|everybody|whoever|for\s+ever)\b",
    re.IGNORECASE,
)


def test_every_sentence_names_its_actor() -> None:
    found = {str(path.relative_to(ROOT)): VAGUE.findall(path.read_text(encoding="utf-8")) for path in PLAIN}
    assert len(found) > 100
    assert {path: words for path, words in found.items() if words} == {}
