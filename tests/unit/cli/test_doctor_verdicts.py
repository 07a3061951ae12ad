"""The doctor's verdicts on a server's answers, without a server."""

from __future__ import annotations

import pytest

from pglisten._cli.doctor import verdicts
from pglisten._cli.doctor.verdicts import FIXED_IN, Status, Verdict

Answer = tuple["str | None", ...]


def says(verdict: Verdict, status: str, found: str, remedy: str | None) -> bool:
    """Return whether *verdict* has this status and these words, and a remedy only if one is expected."""
    assert (verdict.status.value, verdict.remedy is None) == (status, remedy is None), verdict
    return found in verdict.found and (remedy or "") in (verdict.remedy or "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 ms"),
        (0.000_417, "0.42 ms"),
        (0.009_94, "9.94 ms"),
        (0.009_996, "10.0 ms"),
        (0.099_94, "99.9 ms"),
        (0.099_96, "100 ms"),
        (12.3456, "12346 ms"),
    ],
)
def test_a_duration_has_three_digits(seconds: float, text: str) -> None:
    assert verdicts.milliseconds(seconds) == text


TLS = ("true", "TLSv1.3", "TLS_AES_256_GCM_SHA384")
PLAIN = ("false", None, None)


@pytest.mark.parametrize(
    ("rows", "sslmode", "where", "status", "found", "remedy"),
    [
        ([TLS], "verify-full", "", "ok", "TLSv1.3 with TLS_AES_256_GCM_SHA384; sslmode=verify-full", None),
        ([TLS], "verify-ca", "", "ok", "not its name", None),
        ([TLS], "require", "", "warning", "can pose as the server", "sslmode=verify-full"),
        ([TLS], "prefer", "", "warning", "sslmode=prefer: nothing is verified", "sslmode=verify-full"),
        ([TLS], "require", "local", "ok", "sslmode=require: nothing is verified", None),
        ([PLAIN], "prefer", "", "warning", "not in use", "turn on ssl"),
        ([PLAIN], "disable", "local", "ok", "not in use", None),
        ([], "disable", "", "warning", "not in use", "turn on ssl"),
        ([PLAIN], "verify-full", "pooled", "ok", "sslmode=verify-full: verified", None),
        ([PLAIN], "prefer", "pooled", "warning", "hidden by a pooler", "sslmode=verify-full"),
        ([TLS], "prefer", "pooled local", "ok", "hidden by a pooler", None),
    ],
)
def test_tls(
    rows: list[Answer], sslmode: str, where: str, status: str, found: str, remedy: str | None
) -> None:
    verdict = verdicts.tls(rows, sslmode, local="local" in where, pooled="pooled" in where)
    assert says(verdict, status, found, remedy)


@pytest.mark.parametrize(
    ("text", "number", "status", "remedy"),
    [
        ("19devel", 190000, "ok", None),
        ("13.23", 130023, "warning", "update to 14 or newer"),
        ("9.6.24", 90624, "warning", "update to 14 or newer"),
        ("17.7 (Debian 17.7-1)", 170007, "warning", "update to 17.8 or newer"),
        *((f"{major}.{minor}", major * 10000 + minor, "ok", None) for major, minor in FIXED_IN.items()),
        *(
            (f"{major}.{minor - 1}", major * 10000 + minor - 1, "warning", f"to {major}.{minor} or newer")
            for major, minor in FIXED_IN.items()
        ),
    ],
)
def test_a_version(text: str, number: int, status: str, remedy: str | None) -> None:
    assert says(verdicts.version([(text, str(number))]), status, f"PostgreSQL {text}", remedy)


@pytest.mark.parametrize(
    ("name", "status", "found", "remedy"),
    [
        ("UTF8", "ok", "UTF8", None),
        ("LATIN1", "ok", "LATIN1: channels and payloads cannot contain other", None),
        ("SQL_ASCII", "warning", "SQL_ASCII", "ENCODING 'UTF8'"),
    ],
)
def test_an_encoding(name: str, status: str, found: str, remedy: str | None) -> None:
    assert says(verdicts.encoding([(name,)]), status, found, remedy)


@pytest.mark.parametrize(
    ("usage", "pages", "oldest", "status", "found", "remedy"),
    [
        ("0", None, [], "ok", "0% of 8 GB in use", None),
        ("0.1", "1048576", [], "ok", "10% of 8 GB in use", None),
        ("0.25", "64", [], "warning", "25% of 512 kB in use", "pg_monitor"),
        ("0.25", "12800", [], "warning", "25% of 100 MB in use", "pg_monitor"),
        (
            "0.5",
            None,
            [("4711", "app", "idle in transaction", "90")],
            "warning",
            "server process 4711, app, idle in transaction for 90 s",
            "pg_terminate_backend(4711)",
        ),
        ("0.95", None, [], "failed", "95%", "pg_monitor"),
    ],
)
def test_the_queue(
    usage: str, pages: str | None, oldest: list[Answer], status: str, found: str, remedy: str | None
) -> None:
    rows = [(usage, pages, "8192")]
    assert verdicts.queue_is_filling(rows) is (status != "ok")
    assert says(verdicts.queue(rows, oldest), status, found, remedy)


@pytest.mark.parametrize(
    ("idle", "statement", "status", "found", "remedies"),
    [
        ("0", "0", "ok", "idle_session_timeout off, statement_timeout off", []),
        (None, "0", "ok", "statement_timeout off", []),
        ("30001", "1000", "ok", "idle_session_timeout 30.001 s, statement_timeout 1 s", []),
        ("30000", "0", "warning", "idle for 30 s", ["heartbeat_interval below 30 s"]),
        ("5000", "0", "warning", "every 30 s", ["heartbeat_interval below 5 s"]),
        ("0", "999", "warning", "LISTEN of many channels", ["statement_timeout = '1s'"]),
        ("5000", "500", "warning", "every 30 s", ["below 5 s", "statement_timeout = '1s'"]),
    ],
)
def test_timeouts(idle: str | None, statement: str, status: str, found: str, remedies: list[str]) -> None:
    rows = [("idle_session_timeout", idle)] if idle is not None else []
    verdict = verdicts.timeouts([*rows, ("statement_timeout", statement)], 30.0)
    assert says(verdict, status, found, "" if remedies else None)
    assert all(remedy in (verdict.remedy or "") for remedy in remedies)


@pytest.mark.parametrize(
    ("changes", "status", "found", "remedy"),
    [
        ({}, "ok", "87 of 100 connections are free", None),
        ({"used": "92"}, "ok", "5 of 100", None),
        ({"used": "93"}, "warning", "4 of 100", "raise max_connections"),
        ({"used": "93", "superuser": "true"}, "ok", "7 of 100", None),
        ({"reserved": "10"}, "ok", "77 of 100", None),
        ({"reserved": None}, "ok", "87 of 100", None),
        ({"used": "99"}, "warning", "0 of 100", "raise max_connections"),
        ({"of_role": "9"}, "ok", "87 of 100 connections are free, 8 of the role's 9", None),
        ({"of_role": "4"}, "warning", "3 of the role's 4", "the role's CONNECTION LIMIT"),
        ({"of_role": "4", "superuser": "true"}, "ok", "90 of 100", None),
        ({"of_database": "12"}, "warning", "2 of the database's 12", "the database's CONNECTION LIMIT"),
        ({"of_database": "12", "of_role": "1"}, "warning", "0 of the role's 1", "the role's CONN"),
    ],
)
def test_capacity(changes: dict[str, str | None], status: str, found: str, remedy: str | None) -> None:
    usual: dict[str, str | None] = {
        "max": "100",
        "superusers": "3",
        "reserved": "0",
        "used": "10",
        "superuser": "false",
        "of_role": "-1",
        "by_role": "1",
        "of_database": "-1",
        "in_database": "10",
    }
    assert says(verdicts.capacity([tuple((usual | changes).values())]), status, found, remedy)


def test_the_statuses_keep_their_names() -> None:
    # Programs read these values.
    assert [status.value for status in Status] == ["ok", "warning", "failed", "skipped"]
