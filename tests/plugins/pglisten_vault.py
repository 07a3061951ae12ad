"""A server whose users have the passwords that are searched for, and every way to hand one of these over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import gevent
import pytest

from pglisten.testing.postgres.binaries import find_binaries
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres, keyword_string
from pglisten_environment import leave_out
from pglisten_secrets import PASSWORDS
from pglisten_server import PrivateServer
from pglisten_servers import private_kinds

Reach: TypeAlias = Callable[..., str]
"""Returns a DSN that leads to the vault; keywords change what it says, None leaves something out."""

METHODS = {"scram-sha-256": "scram", "md5": "md5", "password": "clear"}
"""Authentication method to the end of the names of the users that log in by it."""

STRANGER = "stranger"
"""A user with another password."""

HBA = [
    "host  all postgres       all password",
    "local all postgres           password",
    *(f"host all {name}_{user} all {method}" for method, user in METHODS.items() for name in PASSWORDS),
    f"host  all {STRANGER}    all scram-sha-256",
]


@pytest.fixture(scope="session")
def vault(janitor: JanitorProcess) -> Iterator[PrivateServer]:
    """The server. Its database ``latin`` refuses channels and payloads that LATIN1 cannot express."""
    if not find_binaries(private_kinds()):
        leave_out("private", "no server programs are installed: pip install 'pglisten[demo]'")
    with PrivatePostgres(prefer=private_kinds(), janitor=janitor, hba=HBA) as postgres:
        server = PrivateServer(postgres)
        server.query("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        server.query(f"CREATE ROLE {STRANGER} LOGIN PASSWORD 'another one'")
        for method, user in METHODS.items():
            server.query(f"SET password_encryption = '{'md5' if method == 'md5' else 'scram-sha-256'}'")
            for name, password in PASSWORDS.items():
                quoted = password.replace("'", "''")
                server.query(f"CREATE ROLE {name}_{user} LOGIN PASSWORD '{quoted}'")
        yield server
        server.close()


def _key_value(keywords: dict[str, object], password: str, folder: Path, env: pytest.MonkeyPatch) -> str:
    return keyword_string({**keywords, "password": password})


def _uri(keywords: dict[str, object], password: str, folder: Path, env: pytest.MonkeyPatch) -> str:
    hosts, ports = (str(keywords[key]).split(",") for key in ("host", "port"))
    places = zip(hosts, ports, strict=True)
    rest = {key: quote(str(value), safe="") for key, value in keywords.items() if key not in ("host", "port")}
    authority = f"{rest.pop('user')}:{quote(password, safe='')}@{','.join(map(':'.join, places))}"
    return f"postgresql://{authority}/{rest.pop('dbname')}?" + "&".join(map("=".join, rest.items()))


def _variable(keywords: dict[str, object], password: str, folder: Path, env: pytest.MonkeyPatch) -> str:
    env.setenv("PGPASSWORD", password)
    return keyword_string(keywords)


def _password_file(keywords: dict[str, object], password: str, folder: Path, env: pytest.MonkeyPatch) -> str:
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    file = folder / ".pgpass"
    file.touch(0o600)
    file.write_text(f"*:*:*:*:{escaped}\n", encoding="utf-8")
    return keyword_string(keywords)


def _service_file(keywords: dict[str, object], password: str, folder: Path, env: pytest.MonkeyPatch) -> str:
    lines = [f"{key}={value}\n" for key, value in {**keywords, "password": password}.items()]
    (folder / ".pg_service.conf").write_text(f"[vault]\n{''.join(lines)}", encoding="utf-8")
    return "service=vault"


SOURCES = {
    "key=value": _key_value,
    "URI": _uri,
    "PGPASSWORD": _variable,
    "password file": _password_file,
    "service file": _service_file,
}


@pytest.fixture(params=PASSWORDS)
def password_name(request: pytest.FixtureRequest) -> str:
    """Each of the passwords in turn."""
    name: str = request.param
    return name


@pytest.fixture(params=SOURCES)
def reach(
    request: pytest.FixtureRequest,
    vault: PrivateServer,
    password_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Reach:
    """Return a function that puts the password where each source in turn has it, and returns the DSN."""
    monkeypatch.setenv("HOME", str(tmp_path))

    def reach(*, method: str = "scram-sha-256", **changes: object) -> str:
        user, password = f"{password_name}_{METHODS[method]}", PASSWORDS[password_name]
        place = {"host": "127.0.0.1", "port": vault.port, "dbname": "latin", "user": user}
        # That of a key is a secret as well, though there is no key here.
        keywords = {**place, "sslpassword": password, **changes}
        return SOURCES[request.param](keywords, password, tmp_path, monkeypatch)

    return reach


def raised(call: Callable[..., object], *arguments: object) -> BaseException:
    """Return what a call raises."""
    try:
        call(*arguments)
    except (Exception, gevent.Timeout) as error:  # noqa: BLE001 - whatever it is, it is looked at
        return error
    pytest.fail(f"{call} did not raise")
