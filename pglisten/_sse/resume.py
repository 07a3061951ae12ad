"""Where the stream of a log begins: what a request says about it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Start", "start_of"]

POSITION = re.compile("[0-9]{1,19}")
LAST_POSITION = (1 << 63) - 1
"""The largest position: PostgreSQL's bigint."""


class Start(NamedTuple):
    """Where a stream begins."""

    after: int | None
    """The position of the last entry that the client has had; ``None``: with the next new entry."""
    missing: bool
    """Whether the client may have missed something, and the stream begins with a gap."""


def start_of(last_event_id: str | None, after: str | None) -> Start:
    """Return where the stream begins that a request asks for.

    *last_event_id* is the request's header, and *after* the parameter in its URL. A browser repeats the URL
    when it reconnects, so the header counts if there is one. What is no position is not from
    a stream of a log: a gap.
    """
    text = after if last_event_id is None else last_event_id
    if text is None:
        return Start(None, missing=False)
    if POSITION.fullmatch(text) is None or int(text) > LAST_POSITION:
        return Start(None, missing=True)
    return Start(int(text), missing=False)
