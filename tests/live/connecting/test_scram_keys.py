"""Keys of SCRAM in place of a password, and the keys of TLS in a file."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pglisten import ConnectionFailed, Listener, ListenerConnection, load_backend
from pglisten._conninfo import ConnInfo
from pglisten.errors import ConfigurationError
from support.fixtures.secrets import MARK, Searched
from support.fixtures.tls import LOGINS, PASSWORD, TlsServer
from support.fixtures.vault import raised

OTHER = base64.b64encode(bytes(32)).decode()


class Keys(NamedTuple):
    client: str
    server: str

    def dsn(self) -> dict[str, object]:
        return {"scram_client_key": self.client, "scram_server_key": self.server}


@pytest.fixture
def able(backend_name: str) -> str:
    """Each backend that takes the keywords: a libpq before version 18 does not."""
    try:
        load_backend(backend_name).check(ConnInfo.parse("host=127.0.0.1 sslkeylogfile=/x", {}))
    except ConfigurationError as error:
        assert str(error).startswith("sslkeylogfile: not known to the libpq ")  # noqa: PT017
        pytest.skip(str(error))
    return backend_name


@pytest.fixture
def keys(auth_server: TlsServer) -> Keys:
    """The keys of the user that logs in by SCRAM (RFC 5802, 3)."""
    user = LOGINS["scram-sha-256"]
    [(verifier,)] = auth_server.query(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'")
    _, made, stored = verifier.split("$")
    iterations, salt = made.split(":")
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(salt), int(iterations))
    client = hmac.digest(salted, b"Client Key", "sha256")
    assert base64.b64encode(hashlib.sha256(client).digest()).decode() == stored.partition(":")[0]
    return Keys(base64.b64encode(client).decode(), stored.partition(":")[2])


def connect(dsn: str, backend: str) -> None:
    with ListenerConnection(dsn, backend=backend) as connection:
        connection.execute("SELECT 1", timeout=20)


@pytest.mark.parametrize("password", [None, "a wrong one"])
@pytest.mark.parametrize("binding", ["disable", "require"])
def test_keys_log_in_without_the_password(
    auth_server: TlsServer, able: str, keys: Keys, password: str | None, binding: str
) -> None:
    safe = {"sslmode": "require", "channel_binding": binding, "password": password}
    connect(auth_server.login("scram-sha-256", **safe, **keys.dsn()), able)


def test_a_wrong_client_key_is_refused_by_the_server(auth_server: TlsServer, able: str, keys: Keys) -> None:
    with pytest.raises(ConnectionFailed) as caught:
        connect(auth_server.login("scram-sha-256", password=None, **keys._replace(client=OTHER).dsn()), able)
    assert caught.value.sqlstate == "28P01"


@pytest.mark.parametrize("password", [None, PASSWORD])
def test_a_server_that_does_not_have_the_server_key_is_refused(
    auth_server: TlsServer, able: str, keys: Keys, password: str | None
) -> None:
    wrong = keys._replace(server=OTHER).dsn()
    with pytest.raises(ConnectionFailed) as caught:
        connect(auth_server.login("scram-sha-256", password=password, **wrong), able)
    assert caught.value.sqlstate is None


@pytest.mark.parametrize("wrong", ["client", "server"])
def test_no_key_is_shown(
    auth_server: TlsServer, able: str, keys: Keys, searched: Searched, wrong: str
) -> None:
    marked = MARK * 10 + "Qzw="
    assert len(base64.b64decode(marked)) == len(base64.b64decode(OTHER))
    dsn = auth_server.login("scram-sha-256", password=None, **keys._replace(**{wrong: marked}).dsn())
    searched.error(raised(lambda: ListenerConnection(dsn, backend=able)), own=(dsn,))
    with Listener(dsn, backend=able) as listener:
        searched.error(raised(listener.wait_connected, 2), own=(dsn,))
        searched.show(listener, listener.stats(), ConnInfo.parse(dsn, {}))


def test_a_client_secret_of_oauth_is_in_no_error() -> None:
    info = ConnInfo.parse("host=127.0.0.1 oauth_client_secret=hunter2", {})
    with pytest.raises(ConfigurationError, match="oauth_client_secret is not possible with") as caught:
        load_backend("pg8000").check(info)
    assert "hunter2" not in f"{caught.value} {info!r}"


def test_a_server_key_may_stand_beside_a_password(auth_server: TlsServer, able: str, keys: Keys) -> None:
    connect(auth_server.login("scram-sha-256", scram_server_key=keys.server), able)
    with pytest.raises(ConnectionFailed):
        connect(auth_server.login("scram-sha-256", scram_server_key=OTHER), able)


@pytest.mark.parametrize("method", ["md5", "password"])
def test_keys_are_no_password_for_other_methods(
    auth_server: TlsServer, able: str, keys: Keys, method: str
) -> None:
    with pytest.raises(ConnectionFailed, match="the SCRAM keys take its place"):
        connect(auth_server.login(method, password=None, **keys.dsn()), able)


def test_a_client_key_alone_is_refused_because_it_proves_no_server(able: str) -> None:
    with pytest.raises(
        ConfigurationError, match="scram_client_key is set without scram_server_key"
    ) as caught:
        connect(f"host=127.0.0.1 scram_client_key={OTHER}", able)
    assert OTHER not in str(caught.value)


# The keys of TLS ---------------------------------------------------------------------------------------


def test_the_keys_of_each_session_are_appended_to_a_file_of_the_owner(
    auth_server: TlsServer, able: str, tmp_path: Path, own_descriptors: Callable[[], int]
) -> None:
    file = tmp_path / "keys"
    dsn = auth_server.login("scram-sha-256", sslmode="require", sslkeylogfile=str(file))
    before = own_descriptors()
    connect(dsn, able)
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    first = set(file.read_text().splitlines())
    assert any(line.startswith(("CLIENT_RANDOM ", "CLIENT_TRAFFIC_SECRET_0 ")) for line in first)
    connect(dsn, able)
    assert first < set(file.read_text().splitlines())
    assert own_descriptors() == before


def test_no_file_is_made_without_tls(auth_server: TlsServer, able: str, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    connect(auth_server.login("scram-sha-256", sslmode="disable", sslkeylogfile=str(file)), able)
    assert not file.exists()


def test_pg8000_refuses_a_file_that_cannot_be_written(auth_server: TlsServer, tmp_path: Path) -> None:
    dsn = auth_server.login("scram-sha-256", sslmode="require", sslkeylogfile=str(tmp_path))
    with pytest.raises(ConnectionFailed, match=f"cannot use {tmp_path}: Is a directory"):
        connect(dsn, "pg8000")


@pytest.fixture
def own_descriptors() -> Callable[[], int]:
    return lambda: len(os.listdir("/proc/self/fd"))
