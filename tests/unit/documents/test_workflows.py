"""CI runs the environments of tox.ini, CONTRIBUTING.md lists them, and the actions are pinned."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CI = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _environments() -> list[str]:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    return sorted(name.strip() for name in tox["tox"]["env_list"].split(","))


def test_it_runs_every_environment_once_and_no_other() -> None:
    run = [name for names in re.findall(r'env: "([\w,]+)"', CI) for name in names.split(",")]
    assert sorted(run) == _environments()


def test_contributors_find_every_environment_with_its_duration() -> None:
    rows = re.findall(r"^\| `tox -e ([^|]*)\| [^|]+ \| \d+ (?:s|min) \|$", CONTRIBUTING, re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"\w+", row)) == _environments()


def test_it_runs_on_every_python_that_is_declared() -> None:
    declared = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text()
    )
    assert set(re.findall(r'python: "([\d.]+)"', CI)) == set(declared)


def test_it_lets_nothing_be_skipped_that_the_command_for_one_machine_does_not() -> None:
    here = re.search(r"PGLISTEN_TEST_REQUIRE=(\S+)", (ROOT / ".ci" / "run").read_text())
    there = re.search(r"PGLISTEN_TEST_REQUIRE: (\S+)", CI)
    assert here is not None
    assert there is not None
    assert there[1] == here[1]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: str(path.name))
def test_actions_are_pinned_by_commit_and_start_without_permissions(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert [line for line in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []
    assert re.search(r"^permissions: \{\}$", text, re.MULTILINE)


def test_an_action_has_the_same_commit_everywhere() -> None:
    pins = {
        line for path in WORKFLOWS for line in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8"))
    }
    actions = [pin.partition("@")[0] for pin in pins]
    assert len(actions) == len(set(actions))
