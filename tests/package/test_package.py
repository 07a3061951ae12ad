"""The sdist and the wheel. Runs where the build tools are: the tox environment ``package``."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("build", reason="the build tools are not installed here; tox -e package runs these")
pytest.importorskip("hatchling", reason="the build tools are not installed here; tox -e package runs these")

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(180)


def _build(source: Path, into: Path, kind: str) -> Path:
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(into), str(source)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (made,) = into.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


def _contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def test_the_wheel_built_from_the_sdist_equals_the_one_built_from_the_tree(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    with tarfile.open(sdist) as archive:
        # Pythons before 3.11.4 have no filters, and later ones warn without.
        trusted: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(tmp_path / "unpacked", **trusted)
    (source,) = (tmp_path / "unpacked").iterdir()
    assert _contents(_build(source, tmp_path / "again", "wheel")) == _contents(wheel)


def test_all_three_packages_are_in_it_typed(wheel: Path) -> None:
    names = _contents(wheel).keys()
    for package in ("pglisten", "pglisten_libpq", "pglisten_psycopg2", "pglisten_psycopg", "pglisten_pg8000"):
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    assert not [name for name in names if name.startswith(("tests/", "bench/", "docs/", "backends/"))]


def test_the_page_of_the_demo_is_in_it(wheel: Path) -> None:
    folder = "pglisten/_demo/web/static"
    assert {name.partition(f"{folder}/")[2] for name in _contents(wheel) if name.startswith(folder)} == {
        file.name for file in (ROOT / folder).iterdir()
    }


def test_it_has_its_licence_entry_points_and_extras(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        entry_points = archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
        assert "MIT License" in archive.read(f"{info}/licenses/LICENSE").decode()
    assert "[pglisten.backends]" in entry_points
    assert "pglisten = pglisten.__main__:run" in entry_points
    for extra in ("psycopg2", "psycopg", "pg8000", "metrics", "demo"):
        assert f"Provides-Extra: {extra}" in metadata
    assert [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra" not in line
    ] == ["Requires-Dist: gevent>=23.9"]


def test_a_package_page_shows_who_made_it_and_links_that_work_there(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        headers, _, readme = archive.read(f"{info}/METADATA").decode().partition("\n\n")
    assert "Author: pglisten maintainers" in headers
    for label in ("Homepage", "Documentation", "Changelog", "Issues"):
        assert f"Project-URL: {label}, https://github.com/pglisten/pglisten" in headers
    assert "](docs/" not in readme
