"""Sentences name their actors: the caller, a consumer, the worker, the server, never an unnamed person."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PLAIN = [
    *ROOT.glob("*.md"),
    *ROOT.glob(".github/**/*.*"),
    *(ROOT / "docs" / f"{name}.md" for name in ("index", "overview", "design", "lib-pq", "contributing")),
]
VAGUE = re.compile(r"\b(?:nobody|somebody|anybody|everybody|whoever|for\s+ever)\b", re.IGNORECASE)


@pytest.mark.parametrize("path", sorted(PLAIN), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_sentence_names_its_actor(path: Path) -> None:
    assert VAGUE.findall(path.read_text(encoding="utf-8")) == []
