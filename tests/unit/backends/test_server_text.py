"""Text of a server's message: in UTF-8 or not, whole or cut short."""

from __future__ import annotations

import pytest

from pglisten.backend import server_text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("größer".encode(), "größer"),
        (b"Passwort f\xfcr", r"Passwort f\xfcr"),
        # Two of these bytes would make a letter in UTF-8.
        ("Рё: да".encode("cp1251"), r"\xd0\xb8: \xe4\xe0"),
        ("größer".encode() + b"\xe2\x82", r"größer\xe2\x82"),
        (b"Caf\xe9", r"Caf\xe9"),
    ],
)
def test_text_that_is_not_utf8_becomes_ascii_with_escapes(data: bytes, text: str) -> None:
    assert server_text(data) == text
