"""``pglisten listen`` and ``pglisten notify``, as processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import pglisten
from support.command_line import Start, ended, listening, printed, told
from support.servers.server import PrivateServer, Server

pytestmark = pytest.mark.slow  # Each test starts processes: on one Python.


def test_a_notification_is_a_line_of_time_channel_pid_and_payload(
    start: Start, server: Server, backend_name: str
) -> None:
    process = listening(start, server, backend_name, "orders", "Größe")
    server.notify("orders", "number 17")
    server.notify("Größe", "42 €")
    time, channel, pid, payload = printed(process)
    assert datetime.fromisoformat(time).utcoffset() is not None
    assert (channel, payload) == ("orders", "number 17")
    assert pid.isdigit()
    assert printed(process)[1:] == ["Größe", pid, "42 €"]


@pytest.mark.any_backend
def test_a_payload_can_neither_fake_a_line_nor_drive_the_terminal(
    start: Start, server: Server, backend_name: str
) -> None:
    process = listening(start, server, backend_name, "a\tb")
    server.notify("a\tb", "one\ntwo\r\x1b[2J\x9b3J\u202e \\n")
    assert printed(process)[1::2] == [r"a\tb", r"one\ntwo\r\x1b[2J\x9b3J\u202e \\n"]


@pytest.mark.any_backend
def test_json_is_one_object_a_line(start: Start, server: Server, backend_name: str) -> None:
    process = listening(start, server, backend_name, "--json", "orders")
    server.notify("orders", 'é\n"\x1b\U0001f600')
    [line] = printed(process)
    assert line.isascii()
    assert line.isprintable()
    found = json.loads(line)
    assert list(found) == ["time", "channel", "pid", "payload"]
    assert datetime.fromisoformat(found["time"]).utcoffset() is not None
    assert (found["channel"], found["payload"]) == ("orders", 'é\n"\x1b\U0001f600')
    assert type(found["pid"]) is int


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(
    start: Start, server: Server, backend_name: str, number: signal.Signals
) -> None:
    process = listening(start, server, backend_name, "orders")
    assert server.sessions(f"cli-{backend_name}") == 1
    assert ended(process, number) == (0, "", "")


@pytest.mark.any_backend
def test_a_closed_pipe_ends_it_silently_and_without_another_notification(
    start: Start, server: Server, backend_name: str
) -> None:
    process = listening(start, server, backend_name, "orders")
    with subprocess.Popen(["head", "-1"], stdin=process.stdout, stdout=subprocess.PIPE, text=True) as head:
        assert process.stdout is not None
        process.stdout.close()
        server.notify("orders", "only one")
        assert head.communicate()[0].endswith("\tonly one\n")
    assert process.stderr is not None
    assert (process.wait(), process.stderr.read()) == (0, "")


@pytest.mark.any_backend
def test_a_reader_that_takes_nothing_does_not_keep_it_from_ending(
    start: Start, server: Server, backend_name: str
) -> None:
    process = listening(start, server, backend_name, "orders")
    # More than a pipe holds, so the process waits to write. A blocked process would not handle the signal.
    for number in range(200):
        server.notify("orders", f"{number:07999}")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


@pytest.mark.any_backend
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")
def test_a_full_disk_is_told_and_is_a_failure(start: Start, server: Server, backend_name: str) -> None:
    with open("/dev/full", "w") as full:
        dsn = server.dsn()
        process = start("listen", "orders", "--dsn", dsn, "--backend", backend_name, stdout=full.fileno())
    told(process, "listening to")
    server.notify("orders", "x")
    assert told(process, "standard output cannot be written: ").startswith("pglisten: ")
    assert process.wait() == 1


def test_a_restart_of_the_server_shows_as_loss_return_and_gap(
    start: Start, private_server: PrivateServer, backend_name: str
) -> None:
    process = listening(start, private_server, backend_name, "orders")
    private_server.restart()
    assert "terminating connection" in told(process, "disconnected: ")
    told(process, "reconnected to 127.0.0.1")
    told(process, "gap: some notifications may have been missed")
    private_server.notify("orders", "after it")
    assert printed(process)[3] == "after it"


@pytest.mark.any_backend
def test_a_server_that_is_not_there_is_tried_again_until_it_is(
    start: Start, private_server: PrivateServer, backend_name: str
) -> None:
    private_server.stop()
    dsn = private_server.dsn()
    process = start("listen", "orders", "--dsn", dsn, "--backend", backend_name)
    assert str(private_server.keywords["password"]) not in told(process, "attempt failed, trying again: ")
    private_server.start()
    told(process, "connected to")
    told(process, "listening to orders")
    private_server.notify("orders", "here")
    assert printed(process)[3] == "here"


def test_a_signal_ends_it_while_the_server_is_not_there(
    start: Start, private_server: PrivateServer, backend_name: str
) -> None:
    private_server.stop()
    process = start("listen", "orders", "--dsn", private_server.dsn(), "--backend", backend_name)
    told(process, "attempt failed")
    assert ended(process)[:2] == (0, "")


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "standard_input", "payload"),
    [
        (["number 17"], "", "number 17"),
        ([], "", ""),
        (["--", "-17"], "", "-17"),
        (["-"], "from there é\n", "from there é"),
        (["-"], "two\nlines\n\n", "two\nlines\n"),
        (["-"], "", ""),
    ],
)
def test_notify_sends_what_it_is_given(
    start: Start, server: Server, backend_name: str, arguments: list[str], standard_input: str, payload: str
) -> None:
    with pglisten.ListenerConnection(server.dsn(), backend=backend_name) as connection:
        connection.listen("orders")
        process = start("notify", "--dsn", server.dsn(), "--backend", backend_name, "orders", *arguments)
        assert process.communicate(standard_input) == ("", "")
        assert process.returncode == 0
        assert connection.get().payload == payload


def test_notify_without_a_server_fails_in_one_line_without_the_password(
    start: Start, private_server: PrivateServer, backend_name: str
) -> None:
    private_server.stop()
    process = start("notify", "orders", "x", "--dsn", private_server.dsn(), "--backend", backend_name)
    output, said = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert re.fullmatch(r"pglisten: .*Connection refused.*\n", said)
    assert str(private_server.keywords["password"]) not in said


@pytest.mark.any_backend
def test_the_dsn_comes_from_the_option_then_pglisten_dsn_then_the_pg_variables(
    start: Start, server: Server, backend_name: str
) -> None:
    names = {"dbname": "PGDATABASE"}
    environment = {names.get(key, f"PG{key.upper()}"): str(value) for key, value in server.keywords.items()}
    nowhere = "dbname=does_not_exist"
    found = []
    for arguments, variables in [
        ([], environment),
        ([], environment | {"PGLISTEN_DSN": nowhere}),
        (["--dsn", server.dsn()], {"PGLISTEN_DSN": nowhere}),
    ]:
        process = start("notify", "orders", *arguments, PGLISTEN_BACKEND=backend_name, **variables)
        found.append((process.communicate()[1].count("does_not_exist"), process.returncode))
    assert [status for _, status in found] == [0, 1, 0]
    assert found[1][0] > 0


@pytest.mark.any_backend
def test_what_is_wrong_is_one_line_and_exit_status_2(start: Start, backend_name: str) -> None:
    for arguments in (
        ["listen", "orders", "--dsn", "host=db passwort=secret"],
        ["notify", "orders", "x" * 8000],
    ):
        process = start(*arguments, PGLISTEN_BACKEND=backend_name)
        output, said = process.communicate()
        assert (process.returncode, output) == (2, "")
        assert re.fullmatch(r"pglisten: .+\n", said)
        assert "secret" not in said


def test_the_script_and_the_module_are_the_same(start: Start) -> None:
    script = Path(sys.executable).with_name("pglisten")
    said = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert said == start("--version").communicate()[0] == f"pglisten {pglisten.__version__}\n"
