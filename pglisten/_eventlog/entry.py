"""What a log holds. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from itertools import repeat
from typing import NamedTuple, cast

__all__ = ["EPOCH", "POSSIBLE", "Entry", "created_at", "make_entries", "microseconds"]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_MICROSECOND = timedelta(microseconds=1)

POSSIBLE = (
    "LEAST(GREATEST({}, pg_catalog.timestamptz '0001-01-01 00:00:00+00'), "
    "pg_catalog.timestamptz '9999-12-31 00:00:00+00')"
)
"""SQL for a moment: years that datetime cannot express, and infinity, become the nearest that it can."""


class Entry(NamedTuple):
    """One committed entry of a log."""

    position: int
    """Its place in the order of commits, from 1. Positions grow, and holes between them mean nothing."""
    channel: str
    payload: str
    created: datetime
    """When it was inserted, by the server's clock, in UTC."""


_new = cast(
    "Callable[[type[Entry], tuple[int, str, str, datetime]], Entry]",
    tuple.__new__,  # pyright: ignore[reportUnknownMemberType]
)


def make_entries(
    positions: Iterable[int], channels: Iterable[str], payloads: Iterable[str], created: Iterable[str]
) -> list[Entry]:
    """Return the entries with these fields; *created* as PostgreSQL writes moments in UTC in JSON.

    No Python function runs per entry: in a page of hundreds, that would take most of the time.
    """
    moments = map(datetime.fromisoformat, created if ANY_FRACTION else map(_padded, created))
    return list(map(_new, repeat(Entry), zip(positions, _shared(channels), payloads, moments, strict=True)))


ANY_FRACTION = sys.version_info >= (3, 11)
"""Whether ``fromisoformat`` reads fractions of a second of any length. PostgreSQL drops the last zeros."""


def _padded(moment: str) -> str:
    """Return *moment*, in UTC, with six digits after the second."""
    seconds, _, fraction = moment.removesuffix("+00:00").partition(".")
    return f"{seconds}.{fraction:0<6}+00:00"


def _shared(texts: Iterable[str]) -> Iterable[str]:
    """Return *texts*, with one object for equal ones."""
    seen: dict[str, str] = {}
    return [seen.setdefault(text, text) for text in texts]


def created_at(microsecond: int) -> datetime:
    """Return the moment *microsecond* after 1970, in UTC."""
    return EPOCH + timedelta(microseconds=microsecond)


def microseconds(created: datetime) -> int:
    """Return the microseconds from 1970 to *created*."""
    return (created - EPOCH) // _MICROSECOND
