"""Connection strings, services, password files: both backends connect where libpq does, and only there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.fixtures.tls import PASSWORD, TlsServer

PROGRAM = Path(__file__).parents[1] / "applications" / "connect_as.py"

ESCAPED = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
"""The password with the escapes of a password file."""


class Answer(NamedTuple):
    who: str
    """User, ``@`` and database; ``""`` if the client did not connect."""
    error: str
    printed: str
    """The client's output on stderr."""


Ask = Callable[[str, str, dict[str, str]], Answer]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Return a function of client, DSN and environment."""
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    def ask(way: str, dsn: str, environ: dict[str, str]) -> Answer:
        print(json.dumps({"way": way, "dsn": dsn, "environ": environ}), file=stdin, flush=True)
        return Answer(**json.loads(stdout.readline()))

    with process:
        yield ask
        stdin.close()
        assert process.wait(20) == 0


class Case(NamedTuple):
    """The test fills in ``{home}``, ``{host}`` and ``{port}``."""

    dsn: str
    who: str
    """``""`` if no client connects."""
    files: dict[str, str] = {}  # noqa: RUF012 - never changed
    """Contents by name, in the home directory."""
    environ: dict[str, str] = {}  # noqa: RUF012
    mode: int = 0o600


APP = "user=scram_user dbname=postgres host={host} port={port}"
ALL = {".pgpass": f"*:*:*:*:{ESCAPED}"}
SERVICE = "[shop]\nhost={host}\nport={port}\nuser=trust_user\ndbname=template1\n[other]\nhost=/none\n"

CASES = {
    # The password file
    "all wildcards": Case(APP, "scram_user@postgres", ALL),
    "the exact line": Case(
        APP, "scram_user@postgres", {".pgpass": f"{{host}}:{{port}}:postgres:scram_user:{ESCAPED}"}
    ),
    "no password": Case(APP, ""),
    "a wrong password": Case(APP, "", {".pgpass": "*:*:*:*:wrong"}),
    "the first match wins": Case(APP, "", {".pgpass": f"*:*:*:*:wrong\n*:*:*:*:{ESCAPED}"}),
    "other lines and comments before it": Case(
        APP,
        "scram_user@postgres",
        {".pgpass": f"#*:*:*:*:x\n\n*:1:*:*:x\n*:*:*:other:x\n*:*:*:*:{ESCAPED}\n"},
    ),
    "another port": Case(APP, "", {".pgpass": f"*:1:*:*:{ESCAPED}"}),
    "the host of hostaddr": Case(
        "user=scram_user dbname=postgres host=localhost hostaddr={host} port={port} sslmode=require",
        "scram_user@postgres",
        {".pgpass": f"{{host}}:*:*:*:wrong\nlocalhost:*:*:*:{ESCAPED}"},
    ),
    "hostaddr without a host": Case(
        "user=scram_user dbname=postgres hostaddr={host} port={port}",
        "scram_user@postgres",
        {".pgpass": f"{{host}}:*:*:*:{ESCAPED}"},
    ),
    "a unix socket": Case(
        "user=scram_user dbname=postgres host={socket} port={port}",
        "scram_user@postgres",
        {".pgpass": f"localhost:*:*:*:wrong\n{{socket}}:*:*:*:{ESCAPED}"},
    ),
    "the group may read it": Case(APP, "", ALL, mode=0o640),
    "all may read it": Case(APP, "", ALL, mode=0o644),
    "PGPASSFILE": Case(
        APP,
        "scram_user@postgres",
        {"named": f"*:*:*:*:{ESCAPED}", ".pgpass": "*:*:*:*:wrong"},
        {"PGPASSFILE": "{home}/named"},
    ),
    "PGPASSFILE that is not there": Case(APP, "", ALL, {"PGPASSFILE": "{home}/missing"}),
    "PGPASSFILE that is no plain file": Case(APP, "", ALL, {"PGPASSFILE": "/dev/null"}),
    "passfile before PGPASSFILE": Case(
        APP + " passfile={home}/named",
        "scram_user@postgres",
        {"named": f"*:*:*:*:{ESCAPED}"},
        {"PGPASSFILE": "/none"},
    ),
    "PGPASSWORD before the file": Case(APP, "", ALL, {"PGPASSWORD": "wrong"}),
    "an empty password before PGPASSWORD": Case(
        APP + " password=''", "scram_user@postgres", ALL, {"PGPASSWORD": "wrong"}
    ),
    # The service file
    "service": Case("service=shop", "trust_user@template1", {".pg_service.conf": SERVICE}),
    "service in a URI": Case(
        "postgresql:///postgres?service=shop", "trust_user@postgres", {".pg_service.conf": SERVICE}
    ),
    "PGSERVICE": Case("", "trust_user@template1", {".pg_service.conf": SERVICE}, {"PGSERVICE": "shop"}),
    "PGSERVICE, and the DSN over it": Case(
        "user=scram_user dbname=postgres",
        "scram_user@postgres",
        {".pg_service.conf": SERVICE, **ALL},
        {"PGSERVICE": "shop"},
    ),
    "service over PGSERVICE": Case(
        "service=shop", "trust_user@template1", {".pg_service.conf": SERVICE}, {"PGSERVICE": "other"}
    ),
    "service over a PGSERVICE that is not defined": Case(
        "service=shop", "trust_user@template1", {".pg_service.conf": SERVICE}, {"PGSERVICE": "missing"}
    ),
    "an empty PGSERVICE": Case(APP, "", {".pg_service.conf": SERVICE, **ALL}, {"PGSERVICE": ""}),
    "a service over the variables": Case(
        "service=shop",
        "trust_user@template1",
        {".pg_service.conf": SERVICE},
        {"PGUSER": "no_role", "PGDATABASE": "none", "PGPORT": "1", "PGHOST": "/none"},
    ),
    "the variables under a service": Case(
        "service=shop",
        "trust_user@postgres",
        {".pg_service.conf": "[shop]\nuser=trust_user\n"},
        {"PGUSER": "no_role", "PGDATABASE": "postgres", "PGPORT": "{port}", "PGHOST": "{host}"},
    ),
    "PGSERVICEFILE": Case(
        "service=shop", "trust_user@template1", {"named": SERVICE}, {"PGSERVICEFILE": "{home}/named"}
    ),
    "PGSERVICEFILE that is not there": Case(
        "service=shop", "", {".pg_service.conf": SERVICE}, {"PGSERVICEFILE": "{home}/missing"}
    ),
    "PGSYSCONFDIR": Case(
        "service=shop", "trust_user@template1", {"pg_service.conf": SERVICE}, {"PGSYSCONFDIR": "{home}"}
    ),
    "a service that is not defined": Case("service=missing", "", {".pg_service.conf": SERVICE}),
    "a service with a wrong line": Case(
        "service=shop", "", {".pg_service.conf": SERVICE.replace("=", " = ")}
    ),
    "a service that names another": Case(
        "service=shop", "", {".pg_service.conf": SERVICE.replace("[other]", "service=other")}
    ),
    "a password in a service": Case(
        "service=shop",
        "scram_user@template1",
        {".pg_service.conf": f"[shop]\nuser=scram_user\npassword={PASSWORD}\n" + SERVICE[7:]},
        {"PGPASSWORD": "wrong"},
    ),
    "a password file in a service": Case(
        "service=shop user=scram_user",
        "scram_user@template1",
        {".pg_service.conf": f"[shop]\npassfile={{home}}/named\n{SERVICE[7:]}", "named": ALL[".pgpass"]},
    ),
    # The rest
    "the variables alone": Case(
        "",
        "trust_user@postgres",
        environ={"PGUSER": "trust_user", "PGDATABASE": "postgres", "PGPORT": "{port}", "PGHOST": "{host}"},
    ),
    "the DSN over the variables": Case(
        "user=trust_user dbname=template1 port={port}",
        "trust_user@template1",
        environ={"PGUSER": "no_role", "PGDATABASE": "none", "PGPORT": "1", "PGHOST": "{host}"},
    ),
    "the database of the user's name": Case("user=trust_user host={host} port={port}", ""),
    "lists that do not fit": Case(APP + " hostaddr={host},{host}", "", ALL),
}


@pytest.mark.sweep
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_backend_connects_as_whom_libpq_does(
    auth_server: TlsServer, backend_name: str, ask: Ask, tmp_path: Path, case: Case
) -> None:
    place = {
        "home": tmp_path,
        "host": auth_server.keywords["host"],
        "port": auth_server.port,
        "socket": auth_server.socket_directory,
    }
    for name, content in case.files.items():
        (tmp_path / name).write_text(content.format(**place), encoding="utf-8")
        (tmp_path / name).chmod(case.mode)
    environ = {name: value.format(**place) for name, value in case.environ.items()}
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **environ}
    dsn = case.dsn.format(**place)
    libpq = ask("libpq", dsn, environ)
    ours = ask(backend_name, dsn, environ)
    assert (libpq.who, ours.who) == (case.who, case.who), (libpq.error, ours.error)
    # libpq writes its warnings to stderr; pglisten logs them.
    assert ours.printed == ""
    assert PASSWORD not in ours.error
