"""Password files and services with a server: changing passwords, wrong files, and messages with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pglisten.errors import ConnectionFailed
from support.fixtures.listeners import Events, MakeConnection, MakeListener, fence
from support.fixtures.tls import PASSWORD, TlsServer

ESCAPED = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
"""The password with the escapes of a password file."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def test_a_password_that_changes_in_the_file_counts_at_the_next_attempt(
    home: Path, make_listener: MakeListener, auth_server: TlsServer
) -> None:
    write(home / ".pgpass", "*:*:*:*:before")
    events = Events()
    dsn = auth_server.login("scram-sha-256", password=None)
    listener = make_listener(dsn, event_callback=events)
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    error = events[0][1]
    assert isinstance(error, ConnectionFailed)
    assert error.sqlstate == "28P01"
    assert f"password file {home}/.pgpass" in str(error)
    write(home / ".pgpass", f"*:*:*:*:{ESCAPED}")
    listener.listen("after", timeout=20)
    fence(listener, "after")


@pytest.mark.parametrize("method", ["scram-sha-256", "md5", "password"])
def test_where_the_password_was_sought_is_said_where_one_is_wanted(
    home: Path, make_connection: MakeConnection, auth_server: TlsServer, method: str
) -> None:
    dsn = auth_server.login(method, password=None)
    with pytest.raises(ConnectionFailed, match=f"there is none: .* no password file {home}/.pgpass"):
        make_connection(dsn)
    write(home / ".pgpass", f"*:*:*:*:{ESCAPED}", mode=0o644)
    with pytest.raises(ConnectionFailed, match=r"\.pgpass is ignored, .*: chmod 0600 it"):
        make_connection(dsn)
    write(home / ".pgpass", "*:1:*:*:x")
    where = f"127.0.0.1:{auth_server.port}:postgres"
    with pytest.raises(ConnectionFailed, match=rf"\.pgpass has no line for {where}:"):
        make_connection(dsn)


def test_libpq_writes_nothing_of_the_file_to_stderr(
    home: Path,
    make_connection: MakeConnection,
    auth_server: TlsServer,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A directory.
    monkeypatch.setenv("PGPASSFILE", str(home))
    make_connection(auth_server.login("trust", password=None))
    with pytest.raises(ConnectionFailed, match="it is not a plain file"):
        make_connection(auth_server.login("scram-sha-256", password=None))
    # libpq would read this file if no other was set.
    write(home / ".pgpass", f"*:*:*:*:{ESCAPED}", mode=0o644)
    monkeypatch.delenv("PGPASSFILE")
    with pytest.raises(ConnectionFailed, match="group or others have access to it"):
        make_connection(auth_server.login("scram-sha-256", password=None))
    assert capfd.readouterr().err == ""


def test_a_service_leads_to_the_server(
    home: Path, make_listener: MakeListener, auth_server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        home / ".pg_service.conf",
        f"[shop]\nhost=127.0.0.1\nport={auth_server.port}\nuser=scram_user\ndbname=postgres\n"
        f"passfile={home}/of_service\noptions=-c application_name=from_service\n",
    )
    write(home / "of_service", f"127.0.0.1:*:postgres:*:{ESCAPED}")
    for dsn, variable in (("service=shop", None), ("", "shop"), ("service=shop", "missing")):
        if variable is not None:
            monkeypatch.setenv("PGSERVICE", variable)
        listener = make_listener(dsn)
        listener.wait_connected(20)
        assert listener.stats().server_pid in auth_server.pids("from_service")
        listener.close()


def test_a_password_stays_out_of_errors_whatever_it_is_from(
    home: Path, make_connection: MakeConnection, auth_server: TlsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"host=127.0.0.1\nport={auth_server.port}\nuser=scram_user\ndbname=postgres\n"
    write(home / ".pg_service.conf", f"[secret]\n{place}password=qxv7zk9\n[none]\n{place}")
    write(home / ".pgpass", "*:*:*:*:qxv7zk9")
    for name in ("secret", "none"):
        monkeypatch.setenv("PGSERVICE", name)
        for dsn in ("", "password=qxv7zk9", "postgresql://scram_user:qxv7zk9@/postgres"):
            with pytest.raises(ConnectionFailed) as caught:
                make_connection(dsn)
            assert caught.value.sqlstate == "28P01"
            error: BaseException | None = caught.value
            while error is not None:
                assert "qxv7zk9" not in f"{error} {error!r}"
                error = error.__cause__ or error.__context__
