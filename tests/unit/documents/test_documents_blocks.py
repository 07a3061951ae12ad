"""Blocks that no test runs are Python, and name what there is: commands, options, extras, modules.

Other blocks run: see ``tests/live/documents``.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from pglisten._cli.main import whole_parser

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))


def _blocks(language: str) -> list[Any]:
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in PAGES
        for number, block in enumerate(fence.findall(page.read_text(encoding="utf-8")), 1)
    ]


def _commands() -> list[Any]:
    """Return what follows ``pglisten`` in each block for a shell."""
    command = re.compile(r"(?:^|[ (])pglisten ((?:doctor|demo|listen|log|notify)\b[^)|&\n]*)", re.MULTILINE)
    return [
        pytest.param(words, id=f"{block.id}: {words}")
        for block in _blocks("sh")
        for words in command.findall(block.values[0])
    ]


# The excerpts of docs/backends.md are compared with their files.
@pytest.mark.parametrize("block", [block for block in _blocks("py") if "backends" not in str(block.id)])
def test_an_excerpt_is_python_and_imports_what_there_is(block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pglisten"):
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.import_module(f"{node.module}.{alias.name}")


@pytest.mark.parametrize("words", _commands())
def test_a_command_is_one_with_its_options(words: str) -> None:
    whole_parser().parse_args(shlex.split(words.replace(" --database default", "")))


def test_every_extra_that_is_installed_is_declared() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    declared = set(re.findall(r"^([a-z0-9]+) = ", extras, re.MULTILINE))
    named = {
        extra
        for page in PAGES
        for extras in re.findall(r"(?:pglisten|'\.)\[([a-z0-9,]+)\]", page.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    }
    assert {"psycopg2", "django"} <= named <= declared
