"""Times as the command line shows them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from pglisten._cli.output import local_time


@pytest.fixture(params=["UTC+5", "UTC-14"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Be in a zone west or east of Greenwich, which POSIX counts the other way round."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_a_moment_without_a_local_time_is_shown(moment: datetime) -> None:
    assert local_time(moment.replace(tzinfo=timezone.utc), "seconds")


def test_another_has_the_local_offset(zone: str) -> None:
    shown = local_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc), "seconds")
    assert shown == {"UTC+5": "2026-01-01T22:04:05-05:00", "UTC-14": "2026-01-02T17:04:05+14:00"}[zone]
