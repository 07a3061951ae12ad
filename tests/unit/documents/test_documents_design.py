"""What docs/design.md names exists in the code, and the page has every folder, public module and greenlet."""

from __future__ import annotations

import ast
import builtins
import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CORE = ROOT / "pglisten"
SOURCES = sorted([*CORE.rglob("*.py"), *(ROOT / "backends").rglob("*.py")])
PAGE = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPANS = sorted(set(re.findall(r"`([^`\n]+)`", FENCED.sub("", PAGE))))
GREENLET = re.compile(r'"(pglisten-[^"\s]+)"')
ELSEWHERE = {
    "gevent.killall",
    "rawlink",
    "lint-imports",
    "Protocol",
    "load_balance_hosts",
    "target_session_attrs",
}
"""Names of gevent, a tool, the standard library and libpq's keywords."""


class _Names(ast.NodeVisitor):
    """Every name that the sources define, and the members of each class."""

    def __init__(self) -> None:
        self.all = {path.stem for path in SOURCES} | {path.parent.name for path in SOURCES}
        self.members: defaultdict[str, set[str]] = defaultdict(set)
        self.bases: defaultdict[str, set[str]] = defaultdict(set)
        self._classes: list[str] = []
        for path in SOURCES:
            self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._add(node.name)
        for base in node.bases:
            if isinstance(base, ast.Name):
                self.bases[node.name].add(base.id)
        self._classes.append(node.name)
        self.generic_visit(node)
        self._classes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._add(node.name)
        self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> None:
        self.all.add(node.arg)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Store):
            self._add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if isinstance(node.ctx, ast.Store):
            self._add(node.attr)
        self.generic_visit(node)

    def _add(self, name: str) -> None:
        self.all.add(name)
        if self._classes:
            self.members[self._classes[-1]].add(name)

    def has_member(self, name: str, member: str) -> bool:
        return member in self.members[name] or any(self.has_member(base, member) for base in self.bases[name])


NAMES = _Names()


def _exists(span: str) -> bool:
    """Whether what a piece of code on the page names is in the code."""
    name = re.split(r"[(=]", span)[0]
    if span in ELSEWHERE or hasattr(builtins, name):
        return True
    if "/" in name or name.endswith((".py", ".toml")):
        return (ROOT / name).exists() or (CORE / name).exists()
    if name.startswith("pglisten "):  # A command.
        return f'"{name.split()[1]}"' in (CORE / "_cli" / "arguments.py").read_text(encoding="utf-8")
    if name.startswith("pglisten."):
        group = f'[project.entry-points."{name}"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        return group or find_spec(name) is not None
    owner, _, member = name.rpartition(".")
    return NAMES.has_member(owner, member) if owner else name in NAMES.all


@pytest.mark.parametrize("span", [span for span in SPANS if not span.startswith("pglisten-")])
def test_everything_that_the_page_names_exists(span: str) -> None:
    assert _exists(span)


def test_the_check_finds_names_that_do_not_exist() -> None:
    for span in (
        "_connection/pump.py",
        "ConectionLoop",
        "ConnInfo.prase()",
        "pglisten.no_such_module",
        "pglisten lsiten",
    ):
        assert not _exists(span)


def test_the_table_of_greenlets_has_exactly_those_that_the_code_starts() -> None:
    section = PAGE.partition("## Who owns which greenlet")[2].partition("\n\nAn event")[0]
    listed = {name for row in re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE) for name in row.split()}
    started = {
        re.sub(r"\{.*?\}", "PID", name)
        for path in CORE.rglob("*.py")
        if not {"_demo", "testing"} & set(path.parts)
        for name in GREENLET.findall(path.read_text(encoding="utf-8"))
    }
    assert listed == {f"`{name}`" for name in started}
    assert {span for span in SPANS if span.startswith("pglisten-")} <= started


def test_the_table_of_parts_has_every_folder_and_every_public_module() -> None:
    table = PAGE.partition("| where | content |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`(\w+)/?`", table))
    folders = {path.parent.name for path in CORE.glob("*/__init__.py")}
    modules = {path.stem for path in CORE.glob("*.py") if not path.stem.startswith("_")}
    assert folders | modules <= named


def test_the_picture_has_folders_that_exist() -> None:
    (picture,) = FENCED.findall(PAGE)
    named = re.findall(r"\b_\w+", picture)
    assert len(named) == 5
    assert [name for name in named if not (CORE / name).is_dir()] == []
