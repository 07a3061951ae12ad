"""The documentation site has every page in its menu and every public name in its reference."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
DIRECTIVE = re.compile(
    r"^\.\. auto(?P<kind>\w+):: (?P<name>[\w.]+)(?:\(\))?\n(?P<options>(?:   :.*\n)*)", re.MULTILINE
)
MODULES = [
    "pglisten",
    "pglisten.backend",
    "pglisten.broadcast",
    "pglisten.cache",
    "pglisten.connection",
    "pglisten.errors",
    "pglisten.eventlog",
    "pglisten.django",
    "pglisten.django.operations",
    "pglisten.flask",
    "pglisten.gunicorn",
    "pglisten.health",
    "pglisten.listener",
    "pglisten.metrics",
    "pglisten.sending",
    "pglisten.socketio",
    "pglisten.sse",
    "pglisten.testing",
    "pglisten.testing.contract",
    "pglisten_psycopg",
    "pglisten_psycopg2",
]


def _names_in_the_reference() -> set[str]:
    names = set()
    for path in (DOCS / "reference").glob("*.md"):
        for match in DIRECTIVE.finditer(path.read_text(encoding="utf-8")):
            if match["kind"] != "module":
                names.add(match["name"].rpartition(".")[2])
            elif ":no-members:" not in match["options"]:
                names.update(import_module(match["name"]).__all__)
    return names


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    assert set(import_module(module).__all__) - _names_in_the_reference() <= {"__version__"}


def test_every_page_is_in_the_menu() -> None:
    menu = re.findall(
        r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.MULTILINE | re.DOTALL
    )
    listed = [line for part in menu for line in part.splitlines() if line and not line.startswith(":")]
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert sorted(listed) == sorted(pages - {"index"})
