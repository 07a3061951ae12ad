"""The search for backends, over distributions that the tests write: real entry points, found as any other."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import pytest

import pglisten
from pglisten import _backends as _plugins
from support.fixtures.environment import BACKENDS, installed_backends

BACKEND = """
from pglisten.testing import FakeBackend
class Made(FakeBackend):
    name = "{name}"
    rank = {rank}
"""


@pytest.fixture
def distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _install(where: Path, name: str, code: str, *, extra: bool = True, attribute: str = "Made") -> None:
    module = f"made_up_{name}"
    (where / f"{module}.py").write_text(code)
    info = where / f"{module}-1.0.dist-info"
    info.mkdir()
    provides = f"Provides-Extra: {name}\n" if extra else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: made-up-{name}\nVersion: 1.0\n{provides}")
    (info / "entry_points.txt").write_text(f"[pglisten.backends]\n{name} = {module}:{attribute}\n")
    sys.modules.pop(module, None)


def test_a_third_partys_backend_is_found_by_its_name(distribution: Path) -> None:
    _install(distribution, "third", BACKEND.format(name="third", rank=1000))
    assert pglisten.load_backend("third").name == "third"
    assert "third" in pglisten.available_backends()


def test_the_bundled_backends_come_in_the_order_that_the_readme_names() -> None:
    bundled = [name for name in pglisten.available_backends() if name in BACKENDS]
    assert bundled == installed_backends()


def test_the_lowest_rank_is_taken_where_none_is_named(
    distribution: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGLISTEN_BACKEND", raising=False)
    _install(distribution, "second", BACKEND.format(name="second", rank=-1))
    _install(distribution, "first", BACKEND.format(name="first", rank=-2))
    assert pglisten.available_backends()[:2] == ("first", "second")
    assert pglisten.load_backend().name == "first"


def test_the_variable_names_the_backend(distribution: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(distribution, "named", BACKEND.format(name="named", rank=1000))
    monkeypatch.setenv("PGLISTEN_BACKEND", "named")
    assert pglisten.load_backend().name == "named"
    assert pglisten.load_backend(None).name == "named"


def test_an_unknown_name_lists_the_known(distribution: Path) -> None:
    with pytest.raises(
        pglisten.BackendNotFound, match=r"no backend 'psycopg3'; known are: .*pg8000.*psycopg2"
    ):
        pglisten.load_backend("psycopg3")


def test_a_missing_driver_prints_the_pip_line_with_the_extra(distribution: Path) -> None:
    _install(distribution, "driverless", "import no_such_driver")
    with pytest.raises(
        pglisten.BackendNotFound,
        match=r"needs 'no_such_driver', .* run pip install 'made-up-driverless\[driverless\]'",
    ):
        pglisten.load_backend("driverless")
    assert "driverless" not in pglisten.available_backends()


@pytest.mark.parametrize(
    ("code", "attribute"),
    [
        ("raise OSError('libpq.so.5: cannot open')", "Made"),
        ("Made = dict", "Made"),
        ("", "Missing"),
        ("import made_up_broken.inner", "Made"),
    ],
)
def test_a_broken_installation_says_so(distribution: Path, code: str, attribute: str) -> None:
    _install(distribution, "broken", code, attribute=attribute)
    with pytest.raises(
        pglisten.BackendNotFound, match=r"installed but broken .*--force-reinstall made-up-broken"
    ):
        pglisten.load_backend("broken")


def test_a_connection_string_in_place_of_a_name_is_not_repeated() -> None:
    with pytest.raises(pglisten.BackendNotFound, match="no backend of that name; known are: ") as caught:
        pglisten.load_backend("postgresql://app:s3cret@db/app")
    assert "s3cret" not in str(caught.value)


def test_the_metadata_of_all_distributions_is_read_once_for_a_name(
    distribution: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(distribution, "repeated", BACKEND.format(name="repeated", rank=1000))
    first = pglisten.load_backend("repeated")
    reads = _count_reads(monkeypatch)
    again = pglisten.load_backend("repeated")
    assert (again.name, reads) == ("repeated", [])
    assert again is not first
    pglisten.load_backend()
    assert len(reads) == 1


def test_what_is_installed_later_is_found_though_it_was_asked_for_before(distribution: Path) -> None:
    with pytest.raises(pglisten.BackendNotFound, match="no backend 'later'"):
        pglisten.load_backend("later")
    _install(distribution, "later", "import no_such_driver")
    with pytest.raises(pglisten.BackendNotFound, match="needs 'no_such_driver'"):
        pglisten.load_backend("later")
    (distribution / "no_such_driver.py").write_text("")
    (distribution / "made_up_later.py").write_text(BACKEND.format(name="later", rank=1000))
    importlib.invalidate_caches()
    assert pglisten.load_backend("later").name == "later"
    assert "later" in pglisten.available_backends()


def test_what_breaks_later_is_looked_up_anew(distribution: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _install(distribution, "breaks", BACKEND.format(name="breaks", rank=1000))
    pglisten.load_backend("breaks")
    monkeypatch.delattr(sys.modules["made_up_breaks"], "Made")
    reads = _count_reads(monkeypatch)
    for reads_by_then in (0, 1):
        with pytest.raises(pglisten.BackendNotFound, match="installed but broken"):
            pglisten.load_backend("breaks")
        assert len(reads) == reads_by_then


def _count_reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows with each read of the entry points of all distributions."""
    reads: list[str] = []

    def entry_points(group: str) -> object:
        reads.append(group)
        return importlib.metadata.entry_points(group=group)

    monkeypatch.setattr(_plugins, "entry_points", entry_points)
    return reads
