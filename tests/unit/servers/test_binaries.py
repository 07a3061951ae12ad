"""Finding server programs: only files are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from pglisten._conninfo.dsn import keyword_string
from pglisten.testing.postgres import binaries as module
from pglisten.testing.postgres.binaries import find_binaries


def programs(directory: Path, *names: str, content: bytes = b"\x7fELF") -> Path:
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(module, "LOCAL_PATTERNS", (f"{tmp_path}/postgresql/*/bin",))
    monkeypatch.setattr(module, "WHEELS", {"wheel_with_a_server": "pginstall/bin"})
    monkeypatch.syspath_prepend(tmp_path / "site")


def test_a_machine_without_postgresql_has_none() -> None:
    assert find_binaries(("local", "wheel")) == []


def test_the_newest_version_comes_first_by_number_not_by_text(tmp_path: Path) -> None:
    for version in ("9.6", "17", "15"):
        programs(tmp_path / "postgresql" / version / "bin", "postgres", "initdb")
    found = [Path(each.directory).parent.name for each in find_binaries(("local",))]
    assert found == ["17", "15", "9.6"]


def test_what_is_on_the_path_comes_before_what_packagers_hide(tmp_path: Path) -> None:
    programs(tmp_path / "postgresql" / "17" / "bin", "postgres", "initdb")
    on_path = programs(tmp_path / "path", "postgres", "initdb")
    assert find_binaries(("local",))[0].directory == str(on_path)


def test_one_directory_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = programs(tmp_path / "postgresql" / "17" / "bin", "postgres", "initdb")
    monkeypatch.setenv("PATH", str(directory))
    assert len(find_binaries(("local",))) == 1


def test_clients_without_a_server_do_not_count(tmp_path: Path) -> None:
    programs(tmp_path / "postgresql" / "17" / "bin", "psql", "postgres")
    assert find_binaries(("local",)) == []


def test_a_wheel_is_found_with_its_libraries_and_never_imported(tmp_path: Path) -> None:
    package = tmp_path / "site" / "wheel_with_a_server"
    directory = programs(package / "pginstall" / "bin", "postgres", "initdb")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "site" / "wheel_with_a_server.libs").mkdir()
    (found,) = find_binaries(("wheel",))
    assert (found.kind, found.origin, found.directory) == ("wheel", "wheel_with_a_server", str(directory))
    assert found.tree == str(package)
    assert found.libraries == str(tmp_path / "site" / "wheel_with_a_server.libs")


def test_the_order_asked_for_is_the_order_given(tmp_path: Path) -> None:
    programs(tmp_path / "postgresql" / "17" / "bin", "postgres", "initdb")
    programs(tmp_path / "site" / "wheel_with_a_server" / "pginstall" / "bin", "postgres", "initdb")
    assert [each.kind for each in find_binaries(("wheel", "local"))] == ["wheel", "local"]
    assert [each.kind for each in find_binaries(("local", "wheel"))] == ["local", "wheel"]


def test_a_build_with_ssl_is_told_by_the_library_it_wants(tmp_path: Path) -> None:
    programs(tmp_path / "postgresql" / "16" / "bin", "postgres", "initdb", content=b"..libz.so.1\0")
    programs(tmp_path / "postgresql" / "17" / "bin", "postgres", "initdb", content=b"..libssl.so.3\0")
    assert [each.has_ssl for each in find_binaries(("local",))] == [True, False]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "k=plain"),
        ("", "k=''"),
        ("a b", "k='a b'"),
        ("it's", r"k='it\'s'"),
        ("\\", r"k='\\'"),
        (5432, "k=5432"),
    ],
)
def test_a_connection_string_quotes_what_needs_it(value: object, text: str) -> None:
    assert keyword_string({"k": value, "left_out": None}) == text
