"""``pglisten doctor`` with real servers: findings and remedies, and that it leaves nothing behind."""

from __future__ import annotations

import re
import socket
import time
from typing import Any

import gevent
import pytest

from pglisten import load_backend
from pglisten._cli.doctor import verdicts as _doctor_verdicts
from pglisten._cli.doctor.checks import CHECKS
from pglisten._connection import connect as _dial
from pglisten._connection import resolve as _resolve
from pglisten._conninfo import ConnInfo
from support.doctor import SECRET, Examine, run
from support.fixtures.proxy import MakeProxy
from support.fixtures.tls import TlsServer
from support.servers.server import Server
from support.servers.wrong_server import wrong_server


def test_of_a_healthy_server_nothing_is_bad(examine: Examine, server: Server, backend_name: str) -> None:
    findings = examine(server.dsn(application_name="doctor"))
    assert findings.exit_status == 0
    assert {each.status for name, each in findings.items() if name not in ("server", "tls")} == {"ok"}
    assert backend_name in findings["backend"].found
    assert findings.says("connection", r"is a primary, connected in [\d.]+ ms$")
    assert findings.says("server", f"PostgreSQL {re.escape(server.version)}")
    assert findings.says("delivery", r"^7 notifications from a second session arrived.* [\d.]+ ms")
    assert findings.says("pooler", "^none")


def test_people_get_a_line_for_each_check_and_a_sum(
    capfd: pytest.CaptureFixture[str], server: Server, backend_name: str
) -> None:
    assert run("--dsn", server.dsn(), "--backend", backend_name) == 0
    output, said = capfd.readouterr()
    assert said == ""
    lines = [line for line in output.splitlines() if not line.startswith(" ")]
    for line, check in zip(lines, CHECKS, strict=False):
        assert re.match(rf"(ok|warning) +{check.name} +\S", line)
    assert lines[len(CHECKS) :] == [f"{len(CHECKS)} checks: {lines[-1].partition(': ')[2]}"]


class TestConnection:
    """No server, no address, no login."""

    def test_a_wrong_password(
        self, examine: Examine, auth_server: TlsServer, capfd: pytest.CaptureFixture[str], backend_name: str
    ) -> None:
        dsn = auth_server.login("scram-sha-256", password=SECRET)
        findings = examine(dsn)
        assert findings.bad == {"connection": "failed"}
        assert findings.says("connection", "password authentication failed", "from the connection string")
        assert {each.status for each in list(findings.values())[4:]} == {"skipped"}
        assert run("--dsn", dsn, "--backend", backend_name) == 1
        output, said = capfd.readouterr()
        assert SECRET not in output + said
        assert re.search(r"\nfailed +connection .*\n +-> check user and password .*\n13 checks: 1 f", output)

    def test_nothing_listens(self, examine: Examine, server: Server, proxy: MakeProxy) -> None:
        dead = proxy(server)
        dead.refuse()
        findings = examine(server.dsn(port=dead.port, password=SECRET))
        assert findings.bad == {"connection": "failed"}
        assert findings.says("connection", "Connection refused", "check host and port")

    def test_one_host_of_two_is_a_warning(self, examine: Examine, server: Server, proxy: MakeProxy) -> None:
        dead, host, port = proxy(server), server.keywords["host"], server.keywords["port"]
        dead.refuse()
        findings = examine(server.dsn(host=f"127.0.0.1,{host}", port=f"{dead.port},{port}"))
        assert findings.bad == {"connection": "warning"}
        assert findings.says(
            "connection", f"refused.*; a listener takes {host}:{port}", "check host and port"
        )

    def test_a_server_that_target_session_attrs_does_not_want(self, examine: Examine, server: Server) -> None:
        findings = examine(server.dsn(target_session_attrs="standby"))
        assert findings.bad == {"connection": "failed"}
        assert findings.says("connection", "the server is a primary", "name a server that matches")

    def test_a_name_that_does_not_resolve(
        self, examine: Examine, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = _resolve.getaddrinfo

        def getaddrinfo(host: str, *arguments: Any, **keywords: Any) -> Any:
            if host == "db.test":
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return real(host, *arguments, **keywords)

        # The real resolver may wait for a name server.
        monkeypatch.setattr(_resolve, "getaddrinfo", getaddrinfo)
        findings = examine(server.dsn(host="db.test"))
        assert findings.bad == {"resolution": "failed"}
        assert findings.says("resolution", "'db.test' does not resolve", "correct host")
        findings = examine(server.dsn(host=f"db.test,{server.keywords['host']}"))
        assert findings.bad == {"resolution": "warning"}

    def test_a_backend_that_is_not_there(self, examine: Examine, server: Server) -> None:
        findings = examine(server.dsn(), backend="nope")
        assert findings.bad == {"backend": "failed"}
        assert findings.says("backend", "known are: ")

    @pytest.mark.parametrize("queries", [0, 1, 3, 5, 8, 14])
    def test_a_server_that_hangs_ends_it_in_time(
        self, examine: Examine, server: Server, proxy: MakeProxy, queries: int
    ) -> None:
        between = proxy(server)

        def hang() -> None:
            between.wait_until(lambda: between.queries >= queries)
            between.hold()

        hanging = gevent.spawn(hang)
        gevent.idle()
        started = time.monotonic()
        findings = examine(server.dsn(port=between.port, sslmode="disable"), timeout=0.3)
        assert time.monotonic() - started < 5
        assert "failed" in findings.bad.values()
        assert any(findings.says(name, "(no|not) answer", "[a-z]") for name in findings.bad)
        hanging.join()

    def test_an_answer_that_makes_no_sense_is_a_warning(self, examine: Examine) -> None:
        with wrong_server() as strange:
            findings = examine(strange.dsn(), timeout=0.3)
        assert findings.bad.pop("delivery") == "failed"
        assert findings.says("server", "not PostgreSQL's")
        assert findings.says("capacity", "not PostgreSQL's")


class TestTls:
    """With and without encryption and verification."""

    @pytest.mark.parametrize(
        ("sslmode", "found"),
        [
            ("disable", "^not in use"),
            ("require", r"^TLSv1\.\d with \w+; sslmode=require: nothing is verified$"),
            ("verify-ca", "sslmode=verify-ca: the certificate is verified"),
            ("verify-full", "sslmode=verify-full: verified$"),
        ],
    )
    def test_how_safe_it_is(self, examine: Examine, tls_server: TlsServer, sslmode: str, found: str) -> None:
        root = {"sslrootcert": tls_server.ca} if sslmode.startswith("verify") else {}
        findings = examine(tls_server.login("scram-sha-256", sslmode=sslmode, **root))
        assert (findings.exit_status, findings["tls"].status) == (0, "ok")
        assert findings.says("tls", found)

    def test_a_certificate_of_another_authority(self, examine: Examine, tls_server: TlsServer) -> None:
        dsn = tls_server.login("scram-sha-256", sslmode="verify-full", sslrootcert=tls_server.wrong_ca)
        findings = examine(dsn)
        assert findings.bad == {"connection": "failed"}
        assert findings.says("connection", "certificate", "sslrootcert")


class TestServer:
    """Settings and states that will end a listener later."""

    def test_an_idle_session_timeout(self, examine: Examine, server: Server) -> None:
        findings = examine(server.dsn(options="-c idle_session_timeout=5s"))
        assert (findings.exit_status, findings["timeouts"].status) == (0, "warning")
        assert findings.says("timeouts", "^idle_session_timeout 5 s", "heartbeat_interval below 5 s")

    def test_a_database_without_an_encoding(self, examine: Examine, server: Server) -> None:
        server.query("CREATE DATABASE doctor ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        try:
            assert examine(server.dsn(dbname="doctor"))["encoding"].status == "warning"
        finally:
            server.query("DROP DATABASE doctor WITH (FORCE)")

    def test_who_keeps_the_queue(
        self, examine: Examine, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Every queue counts as filling.
        monkeypatch.setattr(_doctor_verdicts, "QUEUE_WARNING", -1.0)
        holder = _dial.dial(load_backend(), ConnInfo.parse(server.dsn(), {}), 20.0)
        try:
            holder.execute("BEGIN; SELECT 1", 20.0)
            findings = examine(server.dsn())
        finally:
            holder.close()
        assert findings.bad["queue"] == "warning"
        assert findings.says(
            "queue", f"{holder.pid}, .*idle in transaction for \\d+ s", f"\\({holder.pid}\\)"
        )

    def test_no_second_connection(self, examine: Examine, server: Server) -> None:
        server.query(f"CREATE ROLE doctor LOGIN CONNECTION LIMIT 1 PASSWORD '{SECRET}'")
        try:
            findings = examine(server.dsn(user="doctor", password=SECRET))
        finally:
            server.query("DROP ROLE doctor")
        assert findings.exit_status == 0
        assert (findings.bad["delivery"], findings.bad["capacity"]) == ("warning", "warning")
        assert findings.says("delivery", "^not proven, .*too many connections for role", "CONNECTION LIMIT")
        assert findings.says("capacity", "0 of the role's 1", "CONNECTION LIMIT")
