"""Where the stream of a log begins: what the header and the URL of a request say."""

from __future__ import annotations

import pytest

from pglisten._sse.resume import Start, start_of


@pytest.mark.parametrize("text", ["0", "17", "007", str(2**63 - 1)])
def test_a_position_is_where_the_stream_begins(text: str) -> None:
    assert start_of(text, None) == start_of(None, text) == Start(int(text), missing=False)


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x1", "1_0", "a1b2-3", "٣", "²", str(2**63), "9" * 30]
)
def test_what_is_no_position_is_a_gap(text: str) -> None:
    assert start_of(text, None) == start_of(None, text) == Start(None, missing=True)


def test_a_first_request_begins_with_what_is_new() -> None:
    assert start_of(None, None) == Start(None, missing=False)


def test_the_header_of_a_browser_that_comes_back_counts_more_than_its_url() -> None:
    assert start_of("9", "5") == Start(9, missing=False)
    assert start_of("foreign", "5") == Start(None, missing=True)
