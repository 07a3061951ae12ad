"""``pglisten demo --terminal``, as a process."""

from __future__ import annotations

import re
import signal

import pytest

from support.fixtures.demo import Remains, Start, the_rest, up_to
from support.fixtures.environment import installed_backends
from support.servers.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.programs]  # Processes of its own for each test: on one Python.

WITHOUT_PROGRAMS = """\
import sys
from pglisten.testing.postgres import server
server.find_binaries = lambda kinds: []
from pglisten._cli.main import main
sys.exit(main(["demo", "--terminal"]))
"""

WITHOUT_DRIVERS = """\
import sys
sys.modules["psycopg2"] = sys.modules["psycopg"] = sys.modules["pg8000"] = None
from pglisten._cli.main import main
sys.exit(main(["demo", "--terminal"]))
"""


def assert_whole_story(lines: list[str], *, log: bool) -> None:
    for name in installed_backends():
        told = [line for line in lines if name in line]
        left = list(told)
        steps = [
            "received: Order 1",
            "disconnected: ",
            "reconnected",
            "None, the gap marker",
            "received: Order ",
        ]
        for step in steps:
            while left and step not in left[0]:
                del left[0]
            assert left, f"{name} did not come to {step!r} in {lines}"
        counts = r"(\d+) received, (\d+) missed \(gap marker\)(.*); \d+ attempts? failed, 1 reconnection"
        summary = rf"^{name} +{counts}$"
        [(received, missed, by_log)] = re.findall(summary, "\n".join(lines), re.MULTILINE)
        sent = sum("sends: " in line for line in lines)
        assert (int(received) + int(missed), int(missed)) == (sent, 2)
        assert by_log == (f"; by the event log {sent} received" if log else "")
        assert log == any("from the event log: Order" in line for line in told)
    assert "WITHOUT" not in "".join(lines)


def test_it_tells_the_whole_story_of_each_backend_and_leaves_nothing(start: Start) -> None:
    # A variable that would lead elsewhere, or break the connection, has nothing to say here.
    demo = start(
        "-m",
        "pglisten",
        "demo",
        "--terminal",
        "--seconds",
        "6",
        PGHOSTADDR="192.0.2.1",
        PGSSLMODE="verify-full",
    )
    lines = up_to(demo, "received")
    remains = Remains(demo)
    rest, said = the_rest(demo)
    assert (demo.returncode, said) == (0, "")
    lines += rest.splitlines()
    assert_whole_story(lines, log=True)
    assert any("attempt failed: " in line for line in lines)
    assert "\x1b" not in "".join(lines)
    remains.assert_gone()


@pytest.mark.parametrize(
    ("number", "moment"), [(signal.SIGINT, "received: Order 2"), (signal.SIGTERM, "are cut off")]
)
def test_a_signal_ends_it_in_order(start: Start, number: signal.Signals, moment: str) -> None:
    demo = start("-m", "pglisten", "demo", "--terminal", "--seconds", "5")
    up_to(demo, "received")
    remains = Remains(demo)
    up_to(demo, moment)
    demo.send_signal(number)
    rest, said = the_rest(demo)
    assert (demo.returncode, said) == (0, "")
    for name in installed_backends():
        assert re.search(rf"^{name} +\d+ received, 0 missed; by the event log", rest, re.MULTILINE)
    remains.assert_gone()


def test_a_signal_during_the_start_leaves_nothing(start: Start) -> None:
    demo = start("-m", "pglisten", "demo", "--terminal")
    up_to(demo, "Starting")
    demo.send_signal(signal.SIGINT)
    assert the_rest(demo)[1] == ""
    assert demo.returncode == 0


def test_a_closed_pipe_ends_it_and_leaves_nothing(start: Start) -> None:
    demo = start("-m", "pglisten", "demo", "--terminal")
    up_to(demo, "received")
    remains = Remains(demo)
    assert demo.stdout is not None
    assert demo.stderr is not None
    demo.stdout.close()
    assert (demo.wait(), demo.stderr.read()) == (0, "")
    remains.assert_gone()


def test_with_a_dsn_it_ends_only_its_own_sessions_there(start: Start, server: Server) -> None:
    [[own]] = server.query("SELECT pg_backend_pid()")
    demo = start(
        "-m", "pglisten", "demo", "--terminal", "--seconds", "5", "--dsn", server.dsn(application_name="demo")
    )
    lines = up_to(demo, "received")
    assert "No event log: the demo changes nothing in your database." in "".join(lines)
    sessions = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pglisten_demo_%'"
    assert len(server.query(sessions)) == len(installed_backends())
    assert server.query("SELECT relname FROM pg_class WHERE relname LIKE 'pglisten_demo_%'") == []
    rest, said = the_rest(demo)
    assert (demo.returncode, said) == (0, "")
    assert_whole_story(lines + rest.splitlines(), log=False)
    assert server.query("SELECT pg_backend_pid()") == [(own,)]


def test_one_backend_can_be_shown_alone(start: Start, server: Server, backend_name: str) -> None:
    demo = start("-m", "pglisten", "demo", "--terminal", "--backend", backend_name, "--dsn", server.dsn())
    assert up_to(demo, "received")
    demo.send_signal(signal.SIGINT)
    assert the_rest(demo)[0].splitlines()[-1].startswith(backend_name)


def test_a_dsn_that_leads_nowhere_is_one_line(start: Start, server: Server) -> None:
    demo = start("-m", "pglisten", "demo", "--terminal", "--dsn", server.dsn(dbname="does_not_exist"))
    output, said = the_rest(demo)
    assert demo.returncode == 1
    assert "Traceback" not in output + said
    assert re.fullmatch(r"pglisten: .*does_not_exist.*\n", said)


@pytest.mark.parametrize(
    ("program", "remedy"),
    [
        (WITHOUT_PROGRAMS, r"pip install 'pglisten\[demo\]'"),
        (WITHOUT_DRIVERS, r"pip install 'pglisten\[p\w+\]'"),
    ],
)
def test_what_is_missing_is_said_with_the_line_that_installs_it(
    start: Start, program: str, remedy: str
) -> None:
    demo = start("-c", program)
    said = the_rest(demo)[1]
    assert demo.returncode == 2
    assert re.fullmatch(rf"pglisten: .*{remedy}.*\n", said)
