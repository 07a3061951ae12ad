from __future__ import annotations

import re

import pytest

from pglisten import Notification
from pglisten._cli.arguments import parser
from pglisten._cli.listen import _as_json, _as_text
from pglisten._cli.main import main
from pglisten._demo.tally import Tally
from pglisten._text import one_line, visible


def _nothing(arguments: object) -> None:
    raise AssertionError(arguments)


def _help(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capfd.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["lsten", "orders"],
        ["listen"],
        ["listen", "orders", "--js"],
        ["listen", "orders", "--count", "0"],
        ["listen", "orders", "--count", "1.5"],
        ["listen", "orders", "--timeout", "0"],
        ["listen", "orders", "--timeout", "-1"],
        ["listen", "orders", "--timeout", "nan"],
        ["listen", "orders", "--json", "--payload-only"],
        ["listen", "orders", "-h"],
        ["notify"],
        ["notify", "orders", "two", "payloads"],
        ["log"],
        ["log", "create"],
        ["log", "append", "events", "orders"],
        ["log", "follow", "events", "--after", "-1"],
        ["log", "trim", "events", "--older-than", "7 days"],
        ["log", "trim", "events", "--older-than", "-1"],
        ["log", "trim", "events", "--keep", "1.5"],
        ["doctor", "orders"],
        ["doctor", "--timeout", "0.09"],
        ["doctor", "--timeout", "inf"],
        ["demo", "--seconds", "x"],
        ["demo", "--seconds", "4.9"],
        ["demo", "--seconds", "nan"],
        ["demo", "--seconds", "inf"],
    ],
)
def test_what_cannot_be_understood_shows_the_usage(
    capfd: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capfd.readouterr().err.startswith("usage: pglisten ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["listen", ""], "at least one character"),
        (["listen", "orders", "é" * 32], "has 64 bytes of UTF-8"),
        (["notify", "\udcff"], "lone surrogate"),
        (["notify", "orders", "\udcff"], "lone surrogate"),
        (["notify", "orders", "x" * 8000], "at most 7999 are accepted"),
        (["listen", "orders", "--dsn", "postgresql://u:secret@db/x?nope=1"], "unknown keyword"),
        (["listen", "orders", "--dsn", "port=x password=secret"], "port"),
        (["listen", "orders", "-p", "secret"], "port"),
        (["notify", "orders", "-p", "99999"], "between 1 and 65535"),
        (["listen", "orders", "-d", "host=db passwort=secret"], "unknown keyword"),
        (["listen", "orders", "-d", "postgresql://u:secret@db/x?nope=1"], "unknown keyword"),
        (["listen", "orders", "--dsn", "host=a", "-d", "host=b"], "--dsn and --dbname both"),
        (["listen", "orders", "--dsn", "no_such_module:secret"], "cannot be imported (ModuleNotFoundError)"),
        (["notify", "orders", "--dsn", "os:secret"], "cannot be imported (AttributeError)"),
        (["notify", "orders", "--dsn", "os:sep"], "names a str, not a function"),
        (["listen", "orders", "--backend", "nope"], "there is no backend 'nope'"),
        (["demo", "--backend", "nope"], "there is no backend 'nope'"),
        (["demo", "--dsn", "port=0 password=secret"], "port"),
        (["demo", "-p", "0"], "port"),
        (["demo", "--dsn", "os:getcwd"], "the DSN is neither a URI"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_status_2(
    capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    output, said = capfd.readouterr()
    assert output == ""
    assert re.fullmatch(r"pglisten: .+\n", said)
    assert message in said
    assert "secret" not in said


LOG_COMMANDS = [["log", action] for action in ("create", "append", "follow", "trim", "status", "drop")]


@pytest.mark.parametrize(
    "command", [[], ["listen"], ["notify"], ["log"], *LOG_COMMANDS, ["doctor"], ["demo"]]
)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_fits_80_columns(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert max(map(len, _help(capfd, *command).splitlines())) <= 80


def test_help_names_the_environment_and_the_exit_statuses(capfd: pytest.CaptureFixture[str]) -> None:
    text = _help(capfd)
    for part in ("PGLISTEN_DSN", "PGLISTEN_BACKEND", "PGHOST", "NO_COLOR", "exit status", "examples"):
        assert part in text


def test_defaults() -> None:
    read = parser(listen=_nothing, notify=_nothing, log=_nothing, doctor=_nothing, demo=_nothing).parse_args
    assert read(["notify", "orders"]).payload is None
    assert (read(["listen", "a"]).count, read(["listen", "a"]).timeout) == (None, None)
    assert read(["doctor"]).timeout == 10
    assert read(["demo"]).seconds is None
    assert read(["listen", "a", "b"]).channels == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 漢字, \U0001f600", "plain, é, 漢字, \U0001f600"),
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("\x1b]0;title\x07\x1b[2J", r"\x1b]0;title\x07\x1b[2J"),
        ("\x9b2J\x7f\x85", r"\x9b2J\x7f\x85"),
        ("a\tb", r"a\tb"),
        ("\u202eevil\u2066\u2028\u2029\ufeff", r"\u202eevil\u2066\u2028\u2029\ufeff"),
        (r"a\nb", r"a\\nb"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_hostile_payload_stays_in_its_field() -> None:
    line = _as_text(Notification(7, "a\tb", "x\n2026-01-01T00:00:00.000+00:00\torders\t1\tfake"))
    assert line.count("\t") == 3
    assert line.replace("\t", "").isprintable()


def test_json_is_printable_ascii() -> None:
    line = _as_json(Notification(7, "é", "\x1b[2J\n\x9b\u202e"))
    assert line.isascii()
    assert line.isprintable()


def test_a_message_of_several_lines_becomes_one() -> None:
    assert one_line(ValueError("first\n\tsecond\x1b[2J")) == r"first second\x1b[2J"


def test_the_demo_tells_what_was_missed_at_a_gap_from_what_was_missed_without_one() -> None:
    tally = Tally()
    for number in (1, 2):
        tally.notification(number)
    tally.gap()
    tally.notification(5)
    assert (tally.received, tally.missed, tally.unannounced, tally.gaps) == (3, 2, 0, 1)
    tally.notification(7)
    assert (tally.received, tally.missed, tally.unannounced, tally.gaps) == (4, 3, 1, 1)


def test_without_a_command_it_prints_the_help_as_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    text = _help(capfd)
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert capfd.readouterr() == ("", text)


@pytest.mark.parametrize("command", [["listen"], ["notify"], *LOG_COMMANDS, ["doctor"], ["demo"]])
def test_the_short_form_of_help_is_told_from_that_of_host(
    capfd: pytest.CaptureFixture[str], command: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main([*command, "-h"])
    assert "expected one argument (for help write --help)" in capfd.readouterr().err
    for short, long in (
        ("-d", "dbname NAME"),
        ("-h", "host HOST"),
        ("-p", "port PORT"),
        ("-U", "username NAME"),
    ):
        # From Python 3.13 on, the value is named once.
        assert re.search(rf"{short}( [A-Z]+)?, --{long}", _help(capfd, *command))
