from __future__ import annotations

import pytest

import pglisten
from pglisten import _sql
from pglisten._sql import check_channel, check_payload, check_statement, notify_statement, quote_identifier


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("foo", '"foo"'),
        ("foo bar baz", '"foo bar baz"'),
        ('foo"bar', '"foo""bar"'),
        ("Foo", '"Foo"'),
        ("$$;DROP TABLE x--", '"$$;DROP TABLE x--"'),
        ("é" * 31, '"' + "é" * 31 + '"'),
    ],
)
def test_an_identifier_is_quoted_whole(name: str, quoted: str) -> None:
    assert quote_identifier(name) == quoted


@pytest.mark.parametrize("name", ["", "a\0b", "\0", "x" * 64, "é" * 32, "\ud800"])
def test_a_name_that_postgresql_would_refuse_or_cut_is_refused(name: str) -> None:
    with pytest.raises(pglisten.InvalidChannelName):
        check_channel(name)
    with pytest.raises(pglisten.InvalidChannelName):
        quote_identifier(name)


def test_a_name_of_63_bytes_passes() -> None:
    assert check_channel("x" * 63) == "x" * 63
    assert check_channel("é" * 31 + "x")


@pytest.mark.parametrize("name", [b"a", None, 1])
def test_a_name_that_is_no_text_is_a_type_error(name: object) -> None:
    with pytest.raises(TypeError, match="channel name"):
        check_channel(name)  # type: ignore[arg-type]


def test_a_payload_of_7999_bytes_passes_and_8000_do_not() -> None:
    assert check_payload("x" * 7999)
    with pytest.raises(pglisten.PayloadTooLong) as caught:
        check_payload("x" * 7998 + "é")
    assert (caught.value.size, caught.value.limit) == (8000, _sql.MAX_PAYLOAD)


@pytest.mark.parametrize("payload", ["a\0b", "\udfff"])
def test_a_payload_that_cannot_be_sent_is_refused_without_being_shown(payload: str) -> None:
    with pytest.raises(ValueError, match="payload") as caught:
        check_payload("secret" + payload)
    assert "secret" not in str(caught.value)


def test_a_payload_or_statement_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="payload"):
        check_payload(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="statement"):
        check_statement(b"x")  # type: ignore[arg-type]


def test_a_statement_with_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        check_statement("select 1\0")


def test_a_payload_is_quoted_whatever_standard_conforming_strings_says() -> None:
    assert notify_statement("c", "it's a \\ 'test'") == "NOTIFY \"c\", E'it''s a \\\\ ''test'''"


def test_no_payload_is_sent_as_none() -> None:
    assert notify_statement("c", "") == 'NOTIFY "c"'
