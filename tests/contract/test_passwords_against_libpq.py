"""The password file, compared with libpq itself on generated files.

Where the two differ, they do on purpose: a line with a NUL in it is passed over, and a password that is not
UTF-8 is none, since no driver could send it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn

from pglisten._conninfo import ConnInfo
from pglisten._conninfo import hosts as _hosts
from support.libpq import Libpq, environment

COMPARE = settings(max_examples=300, deadline=None)

NOWHERE = "/no/such"
"""A host that libpq tries, in vain, without waiting."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home") / ".pgpass"
    path.touch(mode=0o600)
    return path


def agree(libpq: Libpq, dsn: str, environ: dict[str, str]) -> str:
    """Assert that both find the same password, and return it."""
    ours = ConnInfo.parse(dsn, environ).with_password().password or ""
    with environment(environ):
        assert ours == libpq.read(dsn).password
    return ours


FIELDS = {"host": ["*", NOWHERE, "127.0.0.1", "::1", r"\:\:1", "localhost", "*x", r"\*", ""]}
FIELDS["port"] = ["*", "5432", "1", "", "+1", "54321", "5432\\"]
FIELDS["dbname"] = ["*", "shop", r"s\hop", r"a\:b", "a:b", r"a\\b", "a\\", "", r"\*", "é"]
FIELDS["user"] = ["*", "app", "app ", " app", r"\app", "ap", r"\\", "*"]
PASSWORD = st.text(st.sampled_from("ab:\\*# é'\""), max_size=6)
LINE = st.one_of(
    st.builds(
        "{}:{}:{}:{}:{}".format,
        # Mostly wildcards, so that what is not one decides.
        *(st.one_of(st.just("*"), st.just("*"), st.sampled_from(texts)) for texts in FIELDS.values()),
        PASSWORD,
    ),
    st.builds("*:*:*:*:{}".format, PASSWORD),
    st.text(st.sampled_from("*:ap\\#\r "), max_size=12),
    st.just("#*:*:*:*:comment"),
    st.integers(120, 700).map(lambda size: f"*:*:*:*:{'x' * size}"),
)
TARGET = st.fixed_dictionaries(
    {
        "dbname": st.sampled_from(["shop", "a:b", "a\\b", "*", "é"]),
        "user": st.sampled_from(["app", "*", "\\"]),
    },
    optional={"port": st.sampled_from(["5432", "1"])},
)
FILLS = (255, 511)
"""Bytes that libpq's buffer for a line can hold, before and after it has grown."""

PLACE = st.sampled_from(
    [
        {"host": NOWHERE},
        {"hostaddr": "127.0.0.1"},
        {"hostaddr": "::1"},
        {"host": "localhost", "hostaddr": "127.0.0.1"},
        {"host": NOWHERE, "hostaddr": "127.0.0.1"},
        {},
    ]
)


@COMPARE
@given(st.lists(LINE, max_size=5), st.sampled_from(["\n", "\r\n", "\n\n"]), st.booleans(), PLACE, TARGET)
@example([f"{NOWHERE}:5432:shop:app:right"], "\n", True, {"host": NOWHERE}, {"dbname": "shop", "user": "app"})
@example(["::1:5432:*:*:right"], "\n", True, {"hostaddr": "::1"}, {"dbname": "shop", "user": "app"})
@example(["localhost:*:*:*:right"], "\n", False, {}, {"dbname": "shop", "user": "app"})
@example([r"*:*:s\hop:app:right"], "\n", True, {}, {"dbname": "shop", "user": "app"})
@example([r"*:*:a\:b:\\:right"], "\n", True, {}, {"dbname": "a:b", "user": "\\"})
@example(["#x:*:*:*:x"], "\n", True, {"host": "#x", "hostaddr": "::1"}, {"dbname": "shop", "user": "app"})
@example(["*:*:*:*:", "*:*:*:*:second"], "\n", True, {}, {"dbname": "shop", "user": "app"})
@example(["*:*:*:*"], "\n", True, {}, {"dbname": "shop", "user": "app"})
def test_a_file_holds_the_password_that_libpq_finds(
    libpq: Libpq,
    file: Path,
    lines: list[str],
    end: str,
    ended: bool,
    place: dict[str, str],
    target: dict[str, str],
) -> None:
    content = (end.join(lines) + (end if ended else "")).encode()
    # libpq overlooks a last line without a newline that just fills its buffer.
    assume(len(content.rpartition(b"\n")[2]) not in FILLS)
    file.write_bytes(content)
    # Where there is no directory of Debian's, we take PostgreSQL's own default, and libpq is built for one.
    if place or _hosts.default_host() == _hosts.SOCKET_DIRECTORIES[0]:
        agree(libpq, make_dsn(**place, **target), {"HOME": str(file.parent)})


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_others_have_access_to_is_ignored(libpq: Libpq, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "passwords"
    path.write_text("*:*:*:*:right\n")
    path.chmod(mode)
    found = agree(libpq, f"host={NOWHERE} user=app", {"HOME": NOWHERE, "PGPASSFILE": str(path)})
    assert found == ("" if mode & 0o077 else "right")


def make_directory(path: Path) -> None:
    path.mkdir(mode=0o700)


def make_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def make_link(path: Path) -> None:
    path.with_name("behind").write_text("*:*:*:*:right\n")
    path.with_name("behind").chmod(0o600)
    path.symlink_to(path.with_name("behind"))


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("make", [make_directory, make_fifo, make_link, make_dangling_link])
def test_what_is_no_plain_file_is_ignored_without_waiting_for_it(
    libpq: Libpq, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "passwords")
    environ = {"HOME": NOWHERE, "PGPASSFILE": str(tmp_path / "passwords")}
    assert agree(libpq, f"host={NOWHERE} user=app", environ) == ("right" if make is make_link else "")


@pytest.mark.parametrize(
    ("dsn", "environ"),
    [
        ("", {}),
        ("", {"PGPASSFILE": "{folder}/named"}),
        ("passfile={folder}/given", {"PGPASSFILE": "{folder}/named"}),
        ("passfile='' password=''", {"PGPASSFILE": "{folder}/named"}),
        ("password=''", {"PGPASSWORD": "variable"}),
        ("", {"PGPASSWORD": "variable"}),
        ("password=dsn", {"PGPASSWORD": "variable"}),
        ("service=shop", {"PGPASSFILE": "{folder}/named"}),
        ("service=shop passfile={folder}/given", {}),
        ("service=secret", {"PGPASSWORD": "variable"}),
        ("passfile=/dev/null", {}),
        ("passfile={folder}/missing", {}),
        ("passfile=~/.pgpass", {}),
    ],
)
def test_the_same_file_is_read(libpq: Libpq, tmp_path: Path, dsn: str, environ: dict[str, str]) -> None:
    for name in (".pgpass", "named", "given", "of_service"):
        (tmp_path / name).write_text(f"*:*:*:*:{name}\n")
        (tmp_path / name).chmod(0o600)
    (tmp_path / ".pg_service.conf").write_text(
        f"[shop]\npassfile={tmp_path}/of_service\n[secret]\npassword=service\n"
    )
    variables = {name: value.format(folder=tmp_path) for name, value in environ.items()}
    agree(
        libpq, f"host={NOWHERE} user=app {dsn}".format(folder=tmp_path), {"HOME": str(tmp_path), **variables}
    )


def test_each_of_several_hosts_has_its_own_password(libpq: Libpq, file: Path) -> None:
    file.write_text("/a:*:*:*:first\n/b:1:*:*:second\n/b:*:*:*:third\n")
    environ = {"HOME": str(file.parent)}
    hosts = ConnInfo.parse("host=/a,/b,/b,/c port=1,1,2,2 user=app", environ).targets()
    passwords = [host.with_password().password for host in hosts]
    assert passwords == ["first", "second", "third", None]
    for host, password in zip(hosts, passwords, strict=True):
        dsn = make_dsn(host=host.host, port=host.port, user="app")
        assert agree(libpq, dsn, environ) == (password or "")
