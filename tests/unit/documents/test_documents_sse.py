"""The options and numbers in docs/sse.md are those of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

from pglisten import sse

TEXT = (Path(__file__).parents[3] / "docs" / "sse.md").read_text()


def _defaults(function: Any) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }


def test_every_option_of_stream_is_there_with_its_default() -> None:
    rows = dict(
        re.findall(r"^\| `(\w+)` \| ([^|]+) \|", TEXT.partition("## What a gap means")[0], re.MULTILINE)
    )
    said = {"the channel": None, "the payload": None, "`None`": None, '`"gap"`': "gap"}
    assert {name: said[text] if text in said else float(text) for name, text in rows.items()} == _defaults(
        sse.stream
    )


def test_the_numbers_of_app_are_the_real_ones() -> None:
    defaults = _defaults(sse.app)
    for name in ("max_channels", "queue_size"):
        assert f"`{name}` ({defaults[name]})" in TEXT
    assert f"`max_streams` ({defaults['max_streams']:,} in a process)" in TEXT
    assert f"`timeout` ({defaults['timeout']:g} s)" in TEXT


def test_app_takes_every_option_of_stream_that_is_no_requests_own() -> None:
    stream = _defaults(sse.stream)
    del stream["last_event_id"]
    app = _defaults(sse.app)
    assert {name: app[name] for name in stream} == stream
