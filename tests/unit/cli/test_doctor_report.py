"""The output of the doctor's findings, and findings that need no server."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pglisten._cli.doctor.checks import CHECKS, Diagnosis
from pglisten._cli.doctor.report import Report
from pglisten._cli.doctor.verdicts import Status, Verdict, failed, ok, warning
from pglisten._cli.output import Output
from pglisten.backend import ConnInfo
from pglisten.errors import ConfigurationError
from pglisten.testing import FakeBackend

NAMES = ("one", "another")
Findings = dict[str, Verdict]
Printed = Callable[..., tuple[Report, str]]

WELL: Findings = {"one": ok("it is there"), "another": ok("so it is")}
ILL: Findings = {
    "one": failed("two\nlines \x1b[2J", "do\tthis"),
    "another": Verdict(Status.SKIPPED, "left out: it needs one"),
}


@pytest.fixture
def printed(tmp_path: Path) -> Printed:
    """Report findings; return the report and what was printed."""

    def printed(findings: Findings, **options: bool) -> tuple[Report, str]:
        usual = {"as_json": False, "for_terminal": False, "coloured": False}
        with (tmp_path / "report").open("w", encoding="utf-8") as stream:
            report = Report(Output(stream), names=NAMES, **(usual | options))
            for name, verdict in findings.items():
                report.add(name, verdict)
            report.end("psycopg2")
        return report, (tmp_path / "report").read_text(encoding="utf-8")

    return printed


@pytest.mark.parametrize(
    ("findings", "text"),
    [
        (WELL, "ok       one      it is there\nok       another  so it is\n2 checks: all is well\n"),
        (
            {"one": warning("hm", None), "another": warning("well", "do that")},
            "warning  one      hm\nwarning  another  well\n{indent}-> do that\n2 checks: 2 with a warning\n",
        ),
        (
            ILL,
            "failed   one      two lines \\x1b[2J\n{indent}-> do this\n2 checks: 1 failed, 1 left out\n",
        ),
    ],
)
def test_a_finding_is_a_line_and_what_to_do_another(printed: Printed, findings: Findings, text: str) -> None:
    assert printed(findings)[1] == text.format(indent=" " * 18)


@pytest.mark.parametrize(
    ("findings", "is_ok"), [(WELL, True), ({"one": warning("", "")}, True), (ILL, False)]
)
def test_all_is_well_unless_something_failed(printed: Printed, findings: Findings, is_ok: bool) -> None:
    assert printed(findings)[0].ok is is_ok


def test_json_is_one_object_with_every_check(printed: Printed) -> None:
    text = printed(ILL, as_json=True, for_terminal=True, coloured=True)[1]
    assert text.count("\n") == 1
    assert text.isascii()
    assert json.loads(text) == {
        "ok": False,
        "backend": "psycopg2",
        "checks": [
            {"name": "one", "status": "failed", "found": "two lines \\x1b[2J", "remedy": "do this"},
            {"name": "another", "status": "skipped", "found": "left out: it needs one", "remedy": None},
        ],
    }


LONG = Verdict(Status.WARNING, "word " * 40, "postgresql://" + "x" * 90)


@pytest.mark.parametrize(("columns", "widest"), [("80", 80), ("60", 60), ("10", 38)])
def test_a_terminal_gets_lines_that_fit(
    printed: Printed, monkeypatch: pytest.MonkeyPatch, columns: str, widest: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = printed({"one": LONG}, for_terminal=True)[1].splitlines()
    assert max(map(len, lines)) <= widest
    assert all(line.startswith(" " * 18) for line in lines[1:-1])
    assert lines[-1].startswith("1 checks: ")


def test_a_pipe_gets_whole_lines(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert len(printed({"one": LONG})[1].splitlines()) == 3


def test_the_status_alone_is_coloured(printed: Printed) -> None:
    text = printed(WELL | {"another": failed("it is not", None)}, coloured=True)[1]
    assert text.splitlines()[:2] == [
        "\x1b[32mok     \x1b[0m  one      it is there",
        "\x1b[1;31mfailed \x1b[0m  another  it is not",
    ]


def test_the_names_of_the_checks_stay() -> None:
    assert " ".join(check.name for check in CHECKS) == (
        "configuration backend resolution connection tls server encoding pooler listen delivery queue "
        "timeouts capacity"
    )
    # Each check comes after those that it needs.
    for number, check in enumerate(CHECKS):
        assert set(check.needs) <= {earlier.name for earlier in CHECKS[:number]}


def test_the_guide_has_each_check_and_each_status() -> None:
    text = (Path(__file__).parents[3] / "docs" / "guide.md").read_text(encoding="utf-8")
    section = text.partition("## When nothing arrives\n")[2].partition("\n## ")[0]
    names = [*(check.name for check in CHECKS), *(status.value for status in Status)]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == names


class Picky(FakeBackend):
    def check(self, conninfo: ConnInfo) -> None:
        if conninfo.host == "second":
            raise ConfigurationError("nothing leads to the second")


def test_a_backend_is_asked_about_each_host() -> None:
    found = dict(Diagnosis("host=first,second", Picky(), 1.0).run())
    assert found["backend"] == failed("nothing leads to the second", None)
    assert found["resolution"].status is Status.SKIPPED


@pytest.mark.parametrize(
    ("dsn", "variables", "found", "remedy"),
    [
        ("port=x password=secret", {}, "port is not an integer", "PGLISTEN_DSN"),
        ("host=db passwort=secret", {}, "passwort", "PGLISTEN_DSN"),
        ("postgresql://u:secret@db/x?nope=1", {}, "nope", "PGLISTEN_DSN"),
        ("password=secret", {"PGPORT": "x"}, "PGPORT is not an integer", "variable"),
    ],
)
def test_a_connection_string_that_is_wrong_fails_the_first_check(
    monkeypatch: pytest.MonkeyPatch, dsn: str, variables: dict[str, str], found: str, remedy: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (_, verdict), *rest = Diagnosis(dsn, FakeBackend(), 1.0).run()
    assert verdict.status is Status.FAILED
    assert found in verdict.found
    assert remedy in str(verdict.remedy)
    assert "secret" not in str(verdict)
    assert {other.status for _, other in rest} == {Status.SKIPPED}


@pytest.mark.parametrize(
    ("dsn", "source"),
    [
        ("host=db password=secret", "password from the connection string"),
        (
            "host=db passfile=/none/such",
            "no password (none was given, and there is no password file /none/such)",
        ),
    ],
)
def test_where_the_password_comes_from_is_told(dsn: str, source: str) -> None:
    _, verdict = next(Diagnosis(dsn, FakeBackend(), 1.0).run())
    assert verdict.found.endswith(f"; {source}")
    assert "secret" not in verdict.found
