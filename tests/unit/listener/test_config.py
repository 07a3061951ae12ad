"""The keys that a configuration may have, and the options read from them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

from pglisten import BackendNotFound, Broadcaster, Listener
from pglisten._listener.settings import ListenerOptions, OptionOverrides
from support.config import AS_TEXT, DEFAULTS, SECRET, key, note, options, refusal

ROOT = Path(__file__).parents[3]

# Every option there is


def test_this_file_knows_every_option_of_the_listener() -> None:
    assert AS_TEXT.keys() == DEFAULTS.keys()


@pytest.mark.parametrize("made", [Listener, Broadcaster])
def test_the_signature_has_every_option_with_its_type_and_default(made: type) -> None:
    parameters = list(inspect.signature(made).parameters.values())
    fields = dataclasses.fields(ListenerOptions)
    assert [(p.name, p.annotation, p.default) for p in parameters] == [
        (field.name, field.type, field.default) for field in fields
    ]
    assert OptionOverrides.__annotations__.keys() == {field.name for field in fields}
    assert [p.kind is inspect.Parameter.KEYWORD_ONLY for p in parameters] == [
        p.name != "dsn" for p in parameters
    ]


def test_the_overrides_have_the_types_of_the_options() -> None:
    assert typing.get_type_hints(OptionOverrides) == typing.get_type_hints(ListenerOptions)


@pytest.mark.parametrize("option", AS_TEXT)
def test_each_option_is_converted_from_text(option: str) -> None:
    text, value = AS_TEXT[option]
    found = options({key(option): text})
    assert found == {option: value}
    assert type(found[option]) is type(value)


@pytest.mark.parametrize("option", AS_TEXT)
def test_each_option_that_is_no_text_is_taken_as_it_is(option: str) -> None:
    value = object()
    assert options({key(option): value})[option] is value


@pytest.mark.parametrize("option", AS_TEXT)
def test_each_option_is_refused_by_its_key_where_it_is_no_text(option: str) -> None:
    overrides = {"backend": b"psycopg2"} if option == "backend" else {}
    if option == "backend":
        with pytest.raises(BackendNotFound, match=r"^PGLISTEN_BACKEND: backend is the name of one"):
            Listener.from_config({"PGLISTEN_BACKEND": b"psycopg2"})
    else:
        assert re.match(rf"{key(option)}:? ", refusal({key(option): b"x"}, **overrides))


@pytest.mark.parametrize(
    "option", [name for name in AS_TEXT if name not in ("dsn", "backend", "event_callback")]
)
@pytest.mark.parametrize("text", ["ten", "10 s", "nan", "-1", "1,5", "none "])
def test_text_that_stands_for_nothing_is_refused_by_key_and_value(option: str, text: str) -> None:
    if (
        text == "none "
        and DEFAULTS[option] is not None
        and option in ("connect_timeout", "heartbeat_interval")
    ):
        assert options({key(option): text}) == {option: None}
        return
    said = refusal({key(option): text})
    assert said.startswith(f"{key(option)}: {option} is ")
    assert said.endswith((f"not {text!r}", f"not {text}", f"not {text}.0"))


def test_what_is_left_out_or_empty_has_the_listeners_own_default() -> None:
    assert options({}) == options({key(option): "" for option in AS_TEXT}) == {}


@pytest.mark.parametrize("text", ["none", "None", "NONE"])
def test_none_is_for_options_in_which_it_has_a_meaning(text: str) -> None:
    assert options({"PGLISTEN_CONNECT_TIMEOUT": text}) == {"connect_timeout": None}
    assert options({"PGLISTEN_HEARTBEAT_INTERVAL": text}) == {"heartbeat_interval": None}
    assert options({"PGLISTEN_EVENT_CALLBACK": text}) == {"event_callback": None}
    said = refusal({"PGLISTEN_HEARTBEAT_TIMEOUT": text})
    assert said == f"PGLISTEN_HEARTBEAT_TIMEOUT: heartbeat_timeout is seconds above 0, not {text!r}"
    with pytest.raises(BackendNotFound, match=f"PGLISTEN_BACKEND: there is no backend '{text}'"):
        Listener.from_config({"PGLISTEN_BACKEND": text})


@pytest.mark.parametrize(
    ("config", "overrides", "expected"),
    [
        (
            {"PGLISTEN_MIN_RECONNECT_INTERVAL": "3", "PGLISTEN_MAX_RECONNECT_INTERVAL": "2"},
            {},
            "MAX_RECONNECT_INTERVAL: max_reconnect_interval (2 s) is below min_reconnect_interval (3 s)",
        ),
        (
            {"PGLISTEN_MIN_RECONNECT_INTERVAL": "90"},
            {},
            "MIN_RECONNECT_INTERVAL: max_reconnect_interval (60 s) is below min_reconnect_interval (90 s)",
        ),
        (
            {"PGLISTEN_MIN_RECONNECT_INTERVAL": "3"},
            {"max_reconnect_interval": 1},
            "max_reconnect_interval (1 s) is below min_reconnect_interval (3 s)",
        ),
        ({"PGLISTEN_JITTER": "0.5", "PGLISTEN_OVERFLOW": "jitter"}, {}, "not 'jitter'"),
        ({"PGLISTEN_JITTER": "0.5"}, {"queue_size": 0}, "queue_size is a number"),
        ({}, {"jitter": 5}, "jitter is a number"),
    ],
)
def test_an_error_names_the_keys_of_what_came_from_there_and_nothing_else(
    config: dict[str, str], overrides: dict[str, object], expected: str
) -> None:
    assert expected in refusal(config, **overrides)


# Names


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PGLISTEN_QUEUESIZE", "did you mean PGLISTEN_QUEUE_SIZE?"),
        ("PGLISTEN_BACKENDS", "did you mean PGLISTEN_BACKEND?"),
        ("PGLISTEN_RECONNECT_INTERVAL", "_RECONNECT_INTERVAL?"),
        ("PGLISTEN_DNS", "did you mean PGLISTEN_DSN?"),
        ("PGLISTEN_HOST", "write host into the connection string, or set PGHOST"),
        ("PGLISTEN_PASSWORD", "write password into the connection string, or set PGPASSWORD"),
        ("PGLISTEN_KEEPALIVES", "write keepalives into the connection string"),
        ("PGLISTEN_", "known are PGLISTEN_BACKEND, PGLISTEN_CONNECT_TIMEOUT, "),
        ("PGLISTEN_Queue_Size", "write PGLISTEN_QUEUE_SIZE, in capitals"),
        ("pglisten_dsn", "write PGLISTEN_DSN, in capitals"),
    ],
)
def test_an_unknown_key_is_refused_by_name_with_a_hint(name: str, hint: str) -> None:
    said = refusal({name: SECRET})
    assert said.startswith(f"there is no option {name}: ")
    assert hint in said


def test_other_names_are_ignored() -> None:
    config = {
        "PGHOST": "db",
        "QUEUE_SIZE": "x",
        "PGLISTENER": "x",
        "pglisten_broadcaster": object(),
        "PGLISTEN_TEST_REQUIRE": "tls",
        "pglisten_jitter": "of a module that also has the option itself",
        "PGLISTEN_JITTER": "0.5",
        5: "x",
    }
    assert options(config) == {"jitter": 0.5}


def test_arguments_go_before_the_configuration_which_is_not_even_looked_at() -> None:
    config = {"PGLISTEN_QUEUE_SIZE": "x", "PGLISTEN_EVENT_CALLBACK": "no_such:module", "PGLISTEN_JITTER": "0"}
    found = options(config, queue_size=5, event_callback=None)
    assert found == {"queue_size": 5, "event_callback": None, "jitter": 0.0}
    with pytest.raises(TypeError, match="jittr"):
        Listener.from_config({}, jittr=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="jittr"):
        Broadcaster.from_config({}, jittr=1)  # type: ignore[call-arg]


# The event callback


@pytest.mark.parametrize("path", ["support.config:note", "support.config:Notes.note"])
def test_a_callback_is_found_by_its_path(path: str) -> None:
    assert options({"PGLISTEN_EVENT_CALLBACK": path}) == {"event_callback": note}
    assert options({"PGLISTEN_EVENT_CALLBACK": note}) == {"event_callback": note}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "support.config.note",
            "is a function or 'package.module:function', not 'support.config.note'",
        ),
        ("support.config:", "is a function or 'package.module:function'"),
        ("made up:note", "is a function or 'package.module:function'"),
        ("support.config:nothing", "no 'nothing' in that module, or not yet"),
        ("no_such_module:note", "cannot be imported (ModuleNotFoundError: No module named 'no_such_module')"),
        ("made_up_broken:note", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("support.config:NO_FUNCTION", "is a function of (event, error), not 1"),
    ],
)
def test_a_callback_that_is_not_there_is_refused_by_its_key(
    path: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_up_broken.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    text = refusal({"PGLISTEN_EVENT_CALLBACK": path})
    assert text.startswith(("PGLISTEN_EVENT_CALLBACK ", "PGLISTEN_EVENT_CALLBACK: event_callback "))
    assert said in text


# The document


def test_the_document_has_every_key_with_its_default_and_no_other() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(PGLISTEN_\w+)` \| (.*?) *\|", text, re.MULTILINE))
    assert list(rows) == [key(option) for option in DEFAULTS]
    for option, default in DEFAULTS.items():
        shown = "none" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
        assert rows[key(option)] == shown, option


def test_the_document_says_where_none_means_something() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for option in AS_TEXT:
        takes_none = option == "event_callback" or options({key(option): "none"}) == {option: None}
        row = next(line for line in text.splitlines() if line.startswith(f"| `{key(option)}`"))
        assert ("or `none` for" in row) == (takes_none and option != "event_callback"), option
