"""Channels with the name of another event are refused."""

from __future__ import annotations

from typing import Any

import pytest

from pglisten import Broadcaster, ConfigurationError, Subscription, sse
from pglisten.testing import FakeServer
from support.programs.wsgi import WsgiClient


def allow_all(environ: dict[str, Any], channel: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("channel", "whose"),
    [(sse.GAP, "gap events"), ("error", "a browser's own"), ("\nopen", "a browser's own")],
)
def test_a_channel_that_is_added_later_is_not_mistaken_for_another_event(
    server: FakeServer, subscription: Subscription, channel: str, whose: str
) -> None:
    body = sse.stream(subscription)
    next(body)
    subscription.listen(channel)
    server.notify(channel, "x")
    with pytest.raises(ConfigurationError, match=f"would have the name of {whose}"):
        next(body)


@pytest.mark.parametrize("channel", ["open", "error", "e\nrror", "g\rap"])
def test_a_channel_with_the_name_of_other_events_is_refused_at_once(
    broadcaster: Broadcaster, channel: str
) -> None:
    subscription = broadcaster.subscribe(channel)
    with pytest.raises(ConfigurationError, match=r"has the name of .* event=, or gap events with gap="):
        sse.stream(subscription)
    assert sse.stream(subscription, event="") is not None


def test_a_channel_may_have_any_name_if_events_are_not_named_after_channels(
    broadcaster: Broadcaster, client: WsgiClient
) -> None:
    query = "channel=open&channel=error&channel=gap"
    assert client.ask(sse.app(broadcaster, allow_all, event="news"), query).status == "200 OK"
    assert client.ask(sse.app(broadcaster, allow_all), "channel=Open&channel=errors").status == "200 OK"
