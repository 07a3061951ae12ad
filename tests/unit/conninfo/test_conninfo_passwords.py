"""Where the password comes from, and that no message shows it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pglisten._conninfo import ConnInfo

SECRET = "hunter2"  # occurs in no other word of this file


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def write(path: Path, *lines: str, mode: int = 0o600) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    path.chmod(mode)
    return path


def target(home: Path, dsn: str = "", **environ: str) -> ConnInfo:
    return ConnInfo.parse(f"host=db user=app dbname=shop {dsn}", {"HOME": str(home), **environ})


def test_it_is_read_at_each_call_for_passwords_change(home: Path) -> None:
    info = target(home)
    assert info.with_password().password is None
    file = write(home / ".pgpass", "db:5432:shop:app:first")
    assert info.with_password().password == "first"
    write(file, "db:5432:shop:app:second")
    assert info.with_password().password == "second"
    assert info.password is None


def test_a_password_that_was_given_is_taken_and_no_file_read(home: Path) -> None:
    write(home / ".pgpass", "*:*:*:*:other")
    info = target(home, f"password={SECRET}")
    assert info.with_password() is info


def test_it_is_for_the_host_whatever_the_address(home: Path) -> None:
    write(home / ".pgpass", "192.0.2.1:*:*:*:address", "db:*:*:*:name")
    assert target(home).at("192.0.2.1").with_password().password == "name"


def test_nothing_shows_it(home: Path) -> None:
    write(home / ".pgpass", f"*:*:*:*:{SECRET}")
    info = target(home).with_password()
    assert info.values()["password"] == SECRET
    assert SECRET not in f"{info!r}{info.description}{info.password_source}"


@pytest.mark.parametrize(
    ("dsn", "environ", "source"),
    [
        (f"password={SECRET}", {}, "the connection string"),
        (f"password={SECRET}", {"PGPASSWORD": "x"}, "the connection string"),
        ("", {"PGPASSWORD": SECRET}, "PGPASSWORD"),
        ("service=shop", {"PGPASSWORD": "x"}, "service file {home}/.pg_service.conf"),
        ("", {}, "password file {home}/.pgpass"),
        ("", {"PGPASSFILE": "{home}/named"}, "password file {home}/named"),
        ("password=''", {"PGPASSWORD": "x"}, "password file {home}/.pgpass"),
    ],
)
def test_its_source_can_be_named(home: Path, dsn: str, environ: dict[str, str], source: str) -> None:
    for name in (".pgpass", "named"):
        write(home / name, f"*:*:*:*:{SECRET}")
    write(home / ".pg_service.conf", "[shop]", f"password={SECRET}")
    variables = {name: value.format(home=home) for name, value in environ.items()}
    info = target(home, dsn, **variables).with_password()
    assert (info.password, info.password_source) == (SECRET, source.format(home=home))
    assert info.at("192.0.2.1").password_source == info.password_source


def no_file(file: Path) -> None:
    del file


def empty(file: Path) -> None:
    write(file)


def others(file: Path) -> None:
    write(file, "db:5432:other:app:x", "db:5432:shop:other:x", f"db:5433:shop:app:{SECRET}")


def nothing_in_it(file: Path) -> None:
    write(file, "*:*:*:*:")


def not_utf8(file: Path) -> None:
    file.write_bytes(b"*:*:*:*:" + SECRET.encode() + b"\xff\n")
    file.chmod(0o600)


def open_to_all(file: Path) -> None:
    write(file, f"*:*:*:*:{SECRET}", mode=0o644)


def a_directory(file: Path) -> None:
    file.mkdir(mode=0o700)


def behind_a_file(file: Path) -> None:
    # Permissions would not do, because root may read everything.
    write(file.parent / "plain")
    file.symlink_to(file.parent / "plain" / "x")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_file, "none was given, and there is no password file {file}"),
        (empty, "password file {file} has no line for db:5432:shop:app"),
        (others, "password file {file} has no line for db:5432:shop:app"),
        (nothing_in_it, "password file {file} has an empty password"),
        (not_utf8, "the password in password file {file} is not UTF-8"),
        (
            open_to_all,
            "password file {file} is ignored, group or others have access to it: chmod 0600 it",
        ),
        (a_directory, "password file {file} is ignored, it is not a plain file"),
        (behind_a_file, "password file {file} cannot be read: Not a directory"),
    ],
)
def test_why_there_is_none_can_be_told(home: Path, make: Callable[[Path], None], reason: str) -> None:
    file = home / ".pgpass"
    make(file)
    info = target(home).with_password()
    assert info.password is None
    assert info.password_source == "none: " + reason.format(file=file)


def test_as_long_as_nobody_has_looked_there_is_none_because_none_was_given(home: Path) -> None:
    assert target(home).password_source == "none: none was given"
    assert ConnInfo({"host": "db"}).password_source == "none: none was given"
    assert ConnInfo({"host": "db", "password": SECRET}).password_source == "the connection string"


def test_without_a_home_there_is_no_file(home: Path) -> None:
    del home
    info = ConnInfo({"host": "db", "user": "app"}).with_password()
    assert info.password_source == "none: none was given, and there is no home directory with a .pgpass"


def test_a_file_that_is_ignored_is_warned_about_once(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    file = write(home / ".pgpass", f"*:*:*:*:{SECRET}", mode=0o640)
    for _ in range(3):
        target(home).with_password()
    os.unlink(file)
    file.mkdir(mode=0o700)
    for _ in range(3):
        target(home).with_password()
    assert caplog.record_tuples == [
        (
            "pglisten.conninfo",
            logging.WARNING,
            f"password file {file} is ignored, group or others have access to it: chmod 0600 it",
        ),
        ("pglisten.conninfo", logging.WARNING, f"password file {file} is ignored, it is not a plain file"),
    ]


def test_a_line_with_nul_is_passed_over(home: Path) -> None:
    file = home / ".pgpass"
    file.write_bytes(b"*:*:*:*:a\0b\n*:*:*:*:right\n")
    file.chmod(0o600)
    assert target(home).with_password().password == "right"


def test_looking_leaves_no_descriptor_open(home: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for make in (empty, open_to_all):
        make(home / ".pgpass")
        target(home).with_password()
    os.unlink(home / ".pgpass")
    a_directory(home / ".pgpass")
    target(home).with_password()
    assert os.listdir("/proc/self/fd") == before
