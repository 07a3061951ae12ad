"""``pglisten log``, as processes."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.subprocess
import pytest

from pglisten.eventlog import EventLog
from support.fixtures.programs import LIMIT, Program, StartProgram
from support.fixtures.servers import Server
from support.servers.server import PrivateServer

pytestmark = pytest.mark.slow  # Each test starts processes: on one Python.

MAIN = "import sys; from pglisten.__main__ import run; sys.exit(run())"

Run = Callable[..., tuple[int, str, str]]


def variables(server: Server, backend_name: str) -> dict[str, str]:
    return server.variables(PGLISTEN_BACKEND=backend_name, TZ="UTC")


@pytest.fixture
def run(server: Server, backend_name: str, log_schema: str) -> Run:
    """Run a command of ``pglisten log`` on ``events``; return its status and both outputs."""

    def run(action: str, *arguments: str, name: str = "events", given: str = "") -> tuple[int, str, str]:
        command = ["log", action, name, *arguments, "--schema", log_schema]
        done = gevent.subprocess.run(
            [sys.executable, "-X", "dev", "-c", MAIN, *command],
            env=variables(server, backend_name), input=given, capture_output=True, text=True, timeout=LIMIT,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def follow(
    server: Server, backend_name: str, log_schema: str, start_program: StartProgram
) -> Callable[..., Program]:
    """Start to follow ``events``."""

    def start(*arguments: str) -> Program:
        return start_program(
            MAIN, "log", "follow", "events", *arguments, "--schema", log_schema,
            env=variables(server, backend_name),
        )  # fmt: skip

    return start


def said(program: Program, text: str) -> None:
    """Wait until standard error has a line with *text*."""
    with gevent.Timeout(LIMIT):
        while text not in program.process.stderr.readline():
            pass


def ended(program: Program) -> tuple[int, str]:
    program.process.send_signal(signal.SIGINT)
    rest, _ = program.process.communicate(timeout=LIMIT)
    return program.process.returncode, rest


def test_a_log_is_made_filled_shown_trimmed_and_dropped(run: Run, server: Server, log_schema: str) -> None:
    assert run("create") == (0, "", "")
    assert run("create") == (0, "", "")
    assert run("append", "orders", "number 1") == (0, "", "")
    assert run("append", "orders", "-", given="x" * 100_000 + "\n") == (0, "", "")
    assert server.query(f"SELECT position, length(payload) FROM {log_schema}.events_log") == [
        (1, 8), (2, 100_000),
    ]  # fmt: skip
    server.query(f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('mail', 1)")
    status, out, errors = run("status", "--json")
    assert (status, errors) == (0, "")
    found = json.loads(out)
    assert (found["name"], found["entries"], found["newest"]) == (f"{log_schema}.events", 2, 2)
    assert [(each["name"], each["behind"], each["active"]) for each in found["consumers"]] == [
        ("mail", 1, False)
    ]
    status, out, errors = run("status")
    assert (status, errors) == (0, "")
    assert "newest     2\n" in out
    assert "\nmail      1         1       no      20" in out
    assert run("trim", "--keep", "1") == (0, "1 entry removed\n", "")
    assert run("trim", "--older-than", "1h") == (0, "0 entries removed\n", "")
    status, _, errors = run("drop")
    assert status == 2
    assert "confirm it with --yes" in errors
    assert run("drop", "--yes") == (0, "", "")
    assert server.query("SELECT to_regclass(%s)", f"{log_schema}.events") == [(None,)]
    status, out, errors = run("drop", "--yes")
    assert (status, out) == (1, "")
    assert f"there is no event log {log_schema}.events" in errors


@pytest.mark.any_backend
def test_the_printed_statement_makes_it(run: Run, server: Server, log_schema: str) -> None:
    status, out, errors = run("create", "--sql", "--dsn", "host=nowhere.invalid")
    assert (status, errors) == (0, "")
    assert out == EventLog.sql("events", schema=log_schema) + ";\n"
    server.query(out)
    assert run("append", "orders", "1") == (0, "", "")


@pytest.mark.any_backend
@pytest.mark.parametrize("action", ["append", "follow", "trim", "status"])
def test_a_log_that_is_not_there_is_said(run: Run, log_schema: str, action: str) -> None:
    more = {"append": ["orders", "1"], "trim": ["--keep", "1"]}.get(action, [])
    status, out, errors = run(action, *more)
    assert (status, out) == (1, "")
    assert f"pglisten: there is no event log {log_schema}.events: pglisten log create makes it" in errors
    assert errors.count("there is no event log") == 1


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["append", "", "1"], "at least one character"),
        (["append", "x" * 64, "1"], "63"),
        (["follow", "--after", "-1"], "--after"),
        (["follow", "--after", "one"], "whole number"),
        (["trim"], "say what to remove"),
        (["trim", "--older-than", "7x"], "s, m, h, d or w"),
        (["trim", "--keep", "-1"], "--keep"),
        (["create", "--backend", "none"], "none"),
        (["follow", "--cout", "1"], "usage: pglisten log follow "),
        (["follow", "--after", "1", "orders"], "write options before all names, or after them"),
    ],
)
def test_bad_input_ends_with_2(run: Run, arguments: list[str], text: str) -> None:
    status, out, errors = run(*arguments)
    assert (status, out) == (2, "")
    assert text in errors
    assert "Traceback" not in errors


def test_bad_names_end_with_2(run: Run) -> None:
    for name in ("", "x" * 41):
        status, _, errors = run("status", name=name)
        assert status == 2
        assert "name is text of 1 to 40 bytes" in errors


@pytest.mark.any_backend
def test_a_position_that_is_not_there_ends_with_2(run: Run) -> None:
    run("create")
    status, _, errors = run("follow", "--after", "5")
    assert status == 2
    assert "after=5 is beyond the newest position" in errors


def test_followers_print_each_entry_once(
    follow: Callable[..., Program], run: Run, server: Server, log_schema: str
) -> None:
    run("create")
    run("append", "orders", "before")
    late, all_of_them = follow("orders"), follow("--after", "0", "--json")
    assert json.loads(all_of_them.line())["payload"] == "before"
    said(late, f"following {log_schema}.events after position 1")
    run("append", "other", "not for all")
    run("append", "orders", "two\nlines\\")
    _, position, channel, payload = late.line().split("\t")
    assert (position, channel, payload) == ("3", "orders", "two\\nlines\\\\")
    assert [json.loads(all_of_them.line()) for _ in range(2)][1] | {"created": ""} == {
        "position": 3, "channel": "orders", "payload": "two\nlines\\", "created": "",
    }  # fmt: skip
    assert ended(late) == (0, "")
    assert ended(all_of_them) == (0, "")


@pytest.mark.any_backend
def test_a_follower_ends_after_enough_entries_or_seconds(run: Run) -> None:
    assert run("follow", "--timeout", "0.1", "-h", "127.0.0.1", "-p", "1")[0] == 124
    run("create")
    for payload in ("one", "two", "three"):
        run("append", "orders", payload)
    status, out, _ = run("follow", "--after", "0", "--count", "2", "--json")
    assert status == 0
    assert [json.loads(line)["payload"] for line in out.splitlines()] == ["one", "two"]
    assert run("follow", "--after", "3", "--timeout", "1")[:2] == (0, "")
    status, _, errors = run("follow", "--after", "2", "--count", "2", "--timeout", "1")
    assert status == 124
    assert errors.endswith("pglisten: 1 of 2 entries arrived within 1 s\n")


@pytest.mark.any_backend
def test_a_line_that_is_not_taken_in_time_is_no_success(
    follow: Callable[..., Program], run: Run, server: Server, log_schema: str
) -> None:
    run("create")
    server.query(f"INSERT INTO {log_schema}.events (channel, payload) VALUES ('c', repeat('x', 1000000))")
    program = follow("--after", "0", "--timeout", "1")
    assert program.process.wait(LIMIT) == 124  # Its output is not read: a pipe has room for 64 kB.
    _, errors = program.process.communicate()
    assert errors.endswith("pglisten: the last line was not taken as a whole within 1 s\n")


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_a_follower_survives_a_restart_and_prints_each_entry_once(
    private_server: PrivateServer, backend_name: str, start_program: StartProgram, how: str
) -> None:
    private_server.query(EventLog.sql("events"))
    program = start_program(
        MAIN, "log", "follow", "events", "--json", env=variables(private_server, backend_name)
    )
    said(program, "following public.events after position 0")

    def add(first: int, count: int) -> None:
        private_server.query(
            "INSERT INTO events (channel, payload) "
            f"SELECT 'c', i::text FROM generate_series({first}, {first + count - 1}) i"
        )

    def printed(first: int, count: int) -> None:
        numbers: list[Any] = [int(json.loads(program.line())["payload"]) for _ in range(count)]
        assert numbers == list(range(first, first + count))

    add(1, 300)
    printed(1, 300)
    if how == "kill":
        private_server.kill()
        private_server.start()
    else:
        private_server.restart()
    add(301, 700)
    printed(301, 700)
    assert ended(program) == (0, "")


def test_a_refused_login_ends_with_1(server: Server, run: Run) -> None:
    for action in ("follow", "status"):
        status, _, errors = run(action, "-d", "no_such_database")
        assert status == 1
        assert "no_such_database" in errors


def test_ctrl_c_while_it_appends_is_no_success(
    server: Server, backend_name: str, log_schema: str, start_program: StartProgram, run: Run
) -> None:
    run("create")
    server.query("BEGIN")
    server.query(f"LOCK TABLE {log_schema}.events")
    program = start_program(
        MAIN, "log", "append", "events", "c", "1", "--schema", log_schema, env=variables(server, backend_name)
    )
    with gevent.Timeout(LIMIT):
        while server.query("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(1,)]:
            gevent.idle()
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(LIMIT) == 143
    server.query("ROLLBACK")
    program.process.communicate()
