"""``pglisten doctor`` with a pooler, with a standby, and stopped by a signal."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from pglisten import load_backend
from pglisten._cli.doctor.checks import Diagnosis
from pglisten._cli.doctor.verdicts import Status
from pglisten._connection import connect as _dial
from pglisten._conninfo import ConnInfo
from support.doctor import Examine
from support.fixtures.leaks import settle
from support.fixtures.odyssey import StartOdyssey
from support.fixtures.pgbouncer import PgBouncer, StartPgBouncer
from support.fixtures.programs import LIMIT, Program, StartProgram
from support.fixtures.proxy import MakeProxy
from support.fixtures.standby import StandbyPair
from support.servers.server import Server

pytestmark = pytest.mark.slow  # Each test starts processes: on one Python.


PROGRAM = """
import sys
from pglisten._cli.main import main
sys.exit(main(["doctor", *sys.argv[1:]]))
"""


def listening(pooler: PgBouncer) -> set[str | None]:
    """Return the channels of the pooler's server session, and one more that proves which session that is."""
    session = _dial.dial(load_backend(), ConnInfo.parse(pooler.dsn(), {}), 20.0)
    try:
        session.execute("LISTEN proof", 20.0)
        return {channel for (channel,) in session.fetch("SELECT pg_listening_channels()", 20.0)}
    finally:
        session.close()


class TestPgBouncer:
    """A pooler accepts LISTEN in every mode, and delivers in one."""

    def test_in_session_mode_it_is_a_warning(self, examine: Examine, pgbouncer: StartPgBouncer) -> None:
        findings = examine(pgbouncer("session").dsn())
        assert findings.exit_status == 0
        assert findings.bad == {"pooler": "warning"}
        assert findings.says("pooler", "PgBouncer is in between", "connect to PostgreSQL itself")
        assert findings.says("tls", "hidden by a pooler")
        assert findings.says("delivery", "7 notifications from a second session arrived")

    def test_in_transaction_mode_it_is_a_failure(self, examine: Examine, pgbouncer: StartPgBouncer) -> None:
        pooler = pgbouncer("transaction")
        findings = examine(pooler.dsn(), timeout=1.0)
        assert findings.exit_status == 1
        assert findings.bad == {"pooler": "warning", "delivery": "failed"}
        assert findings["listen"].status == "ok"
        assert findings.says("delivery", "did not arrive within 1 s.*transaction mode", "port 5432")
        assert listening(pooler) == {"proof"}

    def test_with_a_reset_after_each_transaction_listen_is_the_failure(
        self, examine: Examine, pgbouncer: StartPgBouncer
    ) -> None:
        findings = examine(pgbouncer("transaction", more="server_reset_query_always = 1\n").dsn())
        assert findings.bad == {"pooler": "warning", "listen": "failed"}
        assert findings.says("listen", "listens to 0 of 2 acknowledged channels", "session mode")

    def test_without_a_second_connection_it_does_not_go_on_listening(
        self, pgbouncer: StartPgBouncer, proxy: MakeProxy, backend_name: str
    ) -> None:
        pooler = pgbouncer("transaction")
        between = proxy(("127.0.0.1", pooler.port))
        found = {}
        for name, verdict in Diagnosis(pooler.dsn(port=between.port), backend_name, 20.0).run():
            found[name] = verdict
            if name == "listen":
                between.refuse()
        assert found["delivery"].status is Status.WARNING
        assert "not proven" in found["delivery"].found
        assert listening(pooler) == {"proof"}

    def test_a_pool_of_one_proves_nothing(self, examine: Examine, pgbouncer: StartPgBouncer) -> None:
        findings = examine(pgbouncer("session", more="default_pool_size = 1\n").dsn(), timeout=1.0)
        assert findings.bad == {"pooler": "warning", "delivery": "warning"}
        assert findings.says("delivery", "^not proven", "give the pool more connections")
        assert findings["capacity"].status == "ok"

    def test_a_setting_that_it_refuses(self, examine: Examine, pgbouncer: StartPgBouncer) -> None:
        findings = examine(pgbouncer("session").dsn(options="-c geqo=off"))
        assert findings.bad == {"connection": "failed"}
        assert findings.says(
            "connection", "unsupported startup parameter", "the pooler in between refuses it"
        )


class TestOdyssey:
    """It is named by its refusal of a database that does not exist."""

    def test_in_session_mode_it_is_a_warning(self, examine: Examine, odyssey: StartOdyssey) -> None:
        findings = examine(odyssey("session").dsn())
        assert findings.bad == {"pooler": "warning"}
        assert findings.says("pooler", "Odyssey is in between")
        assert findings.says("delivery", "7 notifications from a second session arrived")

    def test_in_transaction_mode_it_ends_listen(self, examine: Examine, odyssey: StartOdyssey) -> None:
        findings = examine(odyssey("transaction").dsn())
        assert findings.bad == {"pooler": "warning", "listen": "failed"}
        assert findings.says("listen", "listens to 0 of 2 acknowledged channels: a connection pooler")

    def test_in_transaction_mode_it_may_keep_listen_and_deliver_late(
        self, examine: Examine, odyssey: StartOdyssey
    ) -> None:
        more = "pool_discard no\npool_smart_discard no"
        findings = examine(odyssey("transaction", more=more).dsn(), timeout=1.0)
        assert findings.bad == {"pooler": "warning", "delivery": "failed"}


class TestStandby:
    """A standby accepts the connection, and refuses LISTEN."""

    def test_alone_it_is_a_failure(self, examine: Examine, standby_pair: StandbyPair) -> None:
        findings = examine(standby_pair.standby.dsn(application_name="doctor"))
        assert findings.exit_status == 1
        assert findings.bad == {"listen": "failed"}
        assert findings.says("connection", "is a standby")
        assert findings.says("listen", "cannot execute LISTEN during recovery", "name the primary")
        assert findings["delivery"].status == "skipped"
        assert settle(lambda: standby_pair.standby.sessions("doctor"), 0) == 0

    def test_with_its_primary_it_is_none(self, examine: Examine, standby_pair: StandbyPair) -> None:
        primary, standby = standby_pair.primary, standby_pair.standby
        for wanted in ("any", "primary", "read-write", "prefer-standby"):
            dsn = standby_pair.dsn(
                port=f"{standby.port},{primary.port}", target_session_attrs=wanted, application_name="doctor"
            )
            findings = examine(dsn)
            assert findings.bad == {}, wanted
            assert findings.says("connection", f"standby.*; a listener takes 127.0.0.1:{primary.port}")
        findings = examine(standby_pair.dsn(target_session_attrs="standby", application_name="doctor"))
        assert findings.bad == {"listen": "failed"}
        for server in standby_pair.servers:
            assert settle(lambda server=server: server.sessions("doctor"), 0) == 0  # type: ignore[misc]


def start(start_program: StartProgram, dsn: str, backend_name: str, **variables: str) -> Program:
    # Leaks appear on standard error.
    environment = os.environ | {"PYTHONDEVMODE": "1"} | variables
    arguments = ("--dsn", dsn, "--backend", backend_name, "--timeout", "60")
    return start_program(PROGRAM, *arguments, env=environment)


def ended(program: Program, number: signal.Signals) -> tuple[int, str, str]:
    """Send the signal; return the exit status and both outputs."""
    program.process.send_signal(number)
    said, errors = program.process.communicate(timeout=LIMIT)
    return program.process.returncode, said, errors


class TestProcess:
    """The doctor as a process."""

    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_ends_it_soon_before_a_server_that_hangs(
        self,
        start_program: StartProgram,
        server: Server,
        proxy: MakeProxy,
        backend_name: str,
        number: signal.Signals,
        status: int,
    ) -> None:
        between = proxy(server)
        program = start(start_program, server.dsn(port=between.port, sslmode="disable"), backend_name)
        # While it checks the delivery.
        between.wait_until(lambda: between.queries >= 7, LIMIT)
        between.hold()
        started = time.monotonic()
        code, said, errors = ended(program, number)
        assert time.monotonic() - started < 20
        assert (code, errors) == (status, "")
        assert re.fullmatch(r"(ok|warning) +listen .*", said.splitlines()[-1])
        between.cut()

    def test_a_signal_leaves_no_listen_at_a_pooler(
        self, start_program: StartProgram, pgbouncer: StartPgBouncer, backend_name: str
    ) -> None:
        pooler = pgbouncer("transaction")
        program = start(start_program, pooler.dsn(), backend_name)
        while not re.match("ok +listen ", program.line()):
            assert program.process.poll() is None
        assert ended(program, signal.SIGINT) == (130, "", "")
        assert listening(pooler) == {"proof"}

    def test_what_is_wrong_is_told_in_the_report_alone(
        self, start_program: StartProgram, server: Server, backend_name: str, tmp_path: Path
    ) -> None:
        passfile = tmp_path / "pgpass"
        passfile.write_text("*:*:*:*:x\n")
        passfile.chmod(0o644)
        dsn = server.dsn(password=None, passfile=passfile)
        program = start(start_program, dsn, backend_name, NO_COLOR="1")
        said, errors = program.process.communicate(timeout=LIMIT)
        assert errors == ""
        assert "chmod 0600" in said.splitlines()[0]
