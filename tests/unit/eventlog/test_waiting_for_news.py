"""What a named consumer does while there is no entry for it."""

from __future__ import annotations

from typing import NoReturn

import pytest

from pglisten import ConfigurationError, ListenerClosed
from pglisten._eventlog.consumer import wait_for_news


def test_it_looks_again_if_positions_have_just_gone_back() -> None:
    def follow(position: int) -> NoReturn:
        raise ConfigurationError(f"after={position} is beyond the newest position", option="after")

    assert wait_for_news(follow, lambda: False)(7)


@pytest.mark.parametrize(
    "error", [ConfigurationError("another", option="name"), ListenerClosed("thrown in from outside")]
)
def test_other_errors_are_the_callers(error: Exception) -> None:
    def follow(_: int) -> NoReturn:
        raise error

    with pytest.raises(type(error)) as caught:
        wait_for_news(follow, lambda: False)(7)
    assert caught.value is error


def test_it_ends_when_the_log_is_closed() -> None:
    def follow(_: int) -> NoReturn:
        raise ListenerClosed("the event log was closed")

    assert not wait_for_news(follow, lambda: True)(7)
