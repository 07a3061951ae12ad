"""When ``pglisten listen`` ends by itself, what else it prints, and the ways to name a server."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest

import pglisten
from support.command_line import PYTHON, Start, ended, listening, printed, told
from support.fixtures.environment import require_terminals
from support.fixtures.tls import PASSWORD, TlsServer
from support.servers.server import PrivateServer, Server

pytestmark = pytest.mark.slow  # Each test starts processes: on one Python.

SECRET = "must-not-be-shown"


def test_a_wrong_password_ends_it_at_once(start: Start, auth_server: TlsServer, backend_name: str) -> None:
    dsn = auth_server.login("scram-sha-256", password=SECRET)
    output, said = (
        process := start("listen", "orders", "--dsn", dsn, "--backend", backend_name)
    ).communicate()
    assert (process.returncode, output) == (1, "")
    assert re.fullmatch(r"pglisten: .*password authentication failed.*\(remedy: check user.*\)\n", said)
    assert SECRET not in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-d", "no_such_database"], 'database "no_such_database" does not exist'),
        (["-U", "no_such_user"], "no_such_user"),
    ],
)
def test_a_database_or_a_user_that_does_not_exist_ends_it_at_once(
    start: Start, auth_server: TlsServer, backend_name: str, options: list[str], message: str
) -> None:
    dsn = auth_server.login("scram-sha-256")
    process = start("listen", "orders", *options, PGLISTEN_DSN=dsn, PGLISTEN_BACKEND=backend_name)
    output, said = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert said.startswith("pglisten: ")
    assert said.count("\n") == 1
    assert message in said


@pytest.mark.any_backend
def test_with_retry_it_tries_again(start: Start, auth_server: TlsServer, backend_name: str) -> None:
    dsn = auth_server.login("scram-sha-256", password=SECRET)
    process = start("listen", "orders", "--retry", "--dsn", dsn, "--backend", backend_name)
    for _ in range(2):
        assert SECRET not in told(process, "attempt failed, trying again: ")
    assert ended(process)[:2] == (0, "")


def test_after_the_first_connection_it_tries_again_whatever_the_server_says(
    start: Start, private_server: PrivateServer, backend_name: str
) -> None:
    private_server.query("CREATE ROLE moving LOGIN PASSWORD 'first'")
    dsn = private_server.dsn(user="moving", password="first", application_name="moving")
    process = start("listen", "orders", "--dsn", dsn, "--backend", backend_name)
    told(process, "listening to")
    private_server.query("ALTER ROLE moving PASSWORD 'second'")
    (pid,) = private_server.pids("moving")
    assert private_server.terminate(pid)
    assert "password authentication failed" in told(process, "attempt failed, trying again: ")
    private_server.query("ALTER ROLE moving PASSWORD 'first'")
    told(process, "gap: ")
    private_server.notify("orders", "here again")
    assert printed(process)[3] == "here again"
    assert ended(process)[0] == 0
    private_server.query("DROP ROLE moving")


@pytest.mark.any_backend
def test_it_ends_after_a_number_of_notifications(start: Start, server: Server, backend_name: str) -> None:
    process = listening(start, server, backend_name, "orders", "--count", "2", "--payload-only")
    for number in range(4):
        server.notify("orders", str(number))
    assert process.communicate()[0] == "0\n1\n"
    assert process.returncode == 0
    assert server.sessions(f"cli-{backend_name}") == 0


@pytest.mark.any_backend
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_that_number_is_no_success(
    start: Start, server: Server, backend_name: str, number: signal.Signals
) -> None:
    process = listening(start, server, backend_name, "orders", "--count", "2")
    assert ended(process, number) == (128 + number, "", "")


@pytest.mark.any_backend
def test_the_time_is_over_before_that_number(start: Start, server: Server, backend_name: str) -> None:
    process = listening(start, server, backend_name, "orders", "--count", "2", "--timeout", "3")
    server.notify("orders", "only one")
    output, said = process.communicate()
    assert output.endswith("\tonly one\n")
    assert (process.returncode, said) == (124, "pglisten: 1 of 2 notifications arrived within 3 s\n")


@pytest.mark.any_backend
def test_without_a_number_the_end_of_the_time_is_a_success(
    start: Start, server: Server, backend_name: str
) -> None:
    process = listening(start, server, backend_name, "orders", "--timeout", "2.5")
    assert process.communicate() == ("", "")
    assert process.returncode == 0


@pytest.mark.any_backend
def test_unless_the_server_was_not_reached(
    start: Start, private_server: PrivateServer, backend_name: str
) -> None:
    private_server.stop()
    dsn = private_server.dsn()
    process = start("listen", "orders", "--timeout", "1.5", "--dsn", dsn, "--backend", backend_name)
    output, said = process.communicate()
    assert (process.returncode, output) == (124, "")
    assert "attempt failed, trying again: " in said
    assert said.endswith("\npglisten: not listening within 1.5 s\n")


@pytest.mark.any_backend
def test_the_time_is_over_while_the_reader_takes_nothing(
    start: Start, server: Server, backend_name: str
) -> None:
    process = listening(start, server, backend_name, "orders", "--timeout", "3", "--count", "100000")
    for number in range(200):
        server.notify("orders", f"{number:07999}")
    assert process.wait(20) == 124


@pytest.mark.any_backend
def test_a_payload_alone_is_unchanged_for_a_program(start: Start, server: Server, backend_name: str) -> None:
    process = listening(start, server, backend_name, "orders", "--payload-only", "--count", "2")
    payloads = [json.dumps({"path": 'C:\\new "é"'}), "two\nlines\t\x1b[2J"]
    for payload in payloads:
        server.notify("orders", payload)
    assert process.communicate()[0] == "".join(f"{payload}\n" for payload in payloads)


@pytest.mark.any_backend
def test_and_harmless_on_a_terminal(server: Server, backend_name: str, tmp_path: Path) -> None:
    require_terminals()
    master, slave = pty.openpty()
    command = [*PYTHON, "listen", "orders", "--payload-only", "--count", "1", "--dsn", server.dsn()]
    with subprocess.Popen(
        [*command, "--backend", backend_name], stdout=slave, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        os.close(slave)
        told(process, "listening to")
        server.notify("orders", "one\n\x1b[2J\\")
        assert process.wait(20) == 0
    assert os.read(master, 1000) == b"one\\n\\x1b[2J\\\\\r\n"
    os.close(master)


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "is_said"),
    [([], True), ([""], False), (["x"], False), (["-"], False)],
)
def test_notify_says_that_it_does_not_read_standard_input(
    start: Start, server: Server, backend_name: str, arguments: list[str], is_said: bool
) -> None:
    process = start("notify", "orders", *arguments, "--dsn", server.dsn(), "--backend", backend_name)
    output, said = process.communicate("hi\n")
    assert (process.returncode, output) == (0, "")
    assert bool(said) is is_said
    if is_said:
        assert "pglisten notify CHANNEL -" in said
        assert said.count("\n") == 1


@pytest.mark.any_backend
def test_notify_says_it_of_a_file_too(server: Server, backend_name: str, tmp_path: Path) -> None:
    (tmp_path / "payload").write_text("hi\n")
    command = [*PYTHON, "notify", "orders", "--dsn", server.dsn(), "--backend", backend_name]
    for name, is_said in {tmp_path / "payload": True, Path("/dev/null"): False}.items():
        with name.open() as file:
            done = subprocess.run(
                command, stdin=file, capture_output=True, text=True, cwd=tmp_path, check=True
            )
        assert bool(done.stderr) is is_said


def _forms(server: Server) -> dict[str, list[str]]:
    words = {key: str(value) for key, value in server.keywords.items()}
    where = f"{words['host']}:{words['port']}/{words['dbname']}"
    return {
        "key=value": ["--dsn", server.dsn()],
        "URI": ["--dsn", f"postgresql://{words['user']}@{where}"],
        "ORM's": ["--dsn", f"postgresql+psycopg2://{words['user']}@{where}"],
        "in -d": ["-d", f"postgres://{words['user']}@{where}"],
        "ORM's in -d": ["--dbname", f"postgresql+asyncpg://{words['user']}@{where}"],
        "psql's": ["-h", words["host"], "-p", words["port"], "-U", words["user"], "-d", words["dbname"]],
        "over another": ["--dsn", server.dsn(port=1), "--port", words["port"]],
        "function": ["--dsn", "made_up:dsn"],
        "function and an option": ["--dsn", "made_up:wrong_port", "-p", words["port"]],
    }


@pytest.mark.any_backend
def test_every_form_of_a_connection_string_leads_to_the_server(
    start: Start, server: Server, backend_name: str, tmp_path: Path
) -> None:
    (tmp_path / "made_up.py").write_text(
        "import os\n"
        "def dsn(): return os.environ['REAL']\n"
        "def wrong_port(): return os.environ['REAL'] + ' port=1'\n"
    )
    variables = {"PGPASSWORD": str(server.keywords.get("password", "")), "REAL": server.dsn()}
    with pglisten.ListenerConnection(server.dsn(), backend=backend_name) as connection:
        connection.listen("forms")
        for form, options in _forms(server).items():
            process = start("notify", "forms", form, *options, PGLISTEN_BACKEND=backend_name, **variables)
            assert process.communicate() == ("", ""), form
            assert connection.get(20).payload == form
        connection.notify("forms", "x", 20)
        process = start(
            "listen", "forms", "--count", "1", "--payload-only", "--dsn", "made_up:dsn",
            PGLISTEN_BACKEND=backend_name, **variables,
        )  # fmt: skip
        told(process, "listening to")
        connection.notify("forms", "for a function", 20)
        assert process.communicate()[0] == "for a function\n"


@pytest.mark.any_backend
def test_a_function_that_blocks_does_not_keep_a_signal_from_ending_the_command(
    start: Start, backend_name: str, tmp_path: Path
) -> None:
    (tmp_path / "made_up.py").write_text(
        "import sys, time\ndef dsn():\n    print('asked', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
    )
    for command in ("listen", "notify"):
        process = start(command, "orders", PGLISTEN_DSN="made_up:dsn", PGLISTEN_BACKEND=backend_name)
        told(process, "asked")
        assert ended(process)[0] == {"listen": 0, "notify": 128 + signal.SIGTERM}[command]


@pytest.mark.any_backend
def test_the_doctor_asks_a_function_for_each_session_and_never_prints_its_result(
    start: Start, auth_server: TlsServer, backend_name: str, tmp_path: Path
) -> None:
    (tmp_path / "made_up.py").write_text(
        "import os\n"
        "def dsn():\n"
        "    with open('calls', 'a') as file: file.write('x')\n"
        "    return os.environ['REAL']\n"
    )
    variables = {"PGLISTEN_DSN": "made_up:dsn", "REAL": auth_server.login("scram-sha-256")}
    for form in ([], ["--json"]):
        process = start("doctor", *form, PGLISTEN_BACKEND=backend_name, **variables)
        output, said = process.communicate()
        assert (process.returncode, said) == (0, "")
        assert "7 notifications from a second session arrived" in output
        assert PASSWORD not in output
        assert "password=" not in output
    assert (tmp_path / "calls").read_text() == "xx" * 2
    variables["REAL"] = "password=must-not-be-shown is no connection string"
    process = start("doctor", PGLISTEN_BACKEND=backend_name, **variables)
    output, said = process.communicate()
    assert (process.returncode, said) == (1, "")
    assert "failed   configuration  the dsn function made_up:dsn returned what cannot work: " in output
    assert SECRET not in output


@pytest.mark.any_backend
def test_the_demo_takes_them_too(start: Start, private_server: PrivateServer, backend_name: str) -> None:
    words = {key: str(value) for key, value in private_server.keywords.items()}
    url = "postgresql+psycopg2://{user}:{password}@{host}/{dbname}".format(**words)
    process = start(
        "demo", "--terminal", "--seconds", "5", "-d", url, "-p", words["port"], "--backend", backend_name
    )
    output, said = process.communicate(timeout=50)
    assert (process.returncode, said) == (0, "")
    assert "received" in output
    assert words["password"] not in output
