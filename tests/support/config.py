"""Configurations for the tests of ``from_config``, and their results."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from pglisten import Broadcaster, ConfigurationError, Listener, ListenerEvent
from pglisten.testing import FakeBackend

DEFAULTS = {name: parameter.default for name, parameter in inspect.signature(Listener).parameters.items()}
SECRET = "Sesame"
BACKEND = FakeBackend()

NO_FUNCTION = 1


def note(event: ListenerEvent, error: Exception | None) -> None:
    """Stand in for an event callback."""


class Notes:
    """Has an event callback."""

    note = staticmethod(note)


AS_TEXT: dict[str, tuple[str, object]] = {
    "dsn": ("host=db", "host=db"),
    "backend": ("pg8000", "pg8000"),
    "min_reconnect_interval": ("0.5", 0.5),
    "max_reconnect_interval": ("90", 90.0),
    "jitter": ("0", 0.0),
    "event_callback": ("support.config:note", note),
    "queue_size": ("10", 10),
    "overflow": ("drop_oldest", "drop_oldest"),
    "connect_timeout": (" 2.5\n", 2.5),
    "heartbeat_interval": ("5", 5.0),
    "heartbeat_timeout": ("1e1", 10.0),
}
"""A text for each option, and its value."""


class Given(Listener):
    """Keeps the options that it is made with."""

    def __init__(self, *arguments: object, **options: object) -> None:
        assert not arguments
        self.options = options


def key(option: str) -> str:
    return f"PGLISTEN_{option.upper()}"


def options(config: object, **overrides: Any) -> dict[str, object]:
    return Given.from_config(config, **overrides).options


def refusal(config: object, **overrides: Any) -> str:
    """Return the one line with which both classes refuse *config*."""
    said = set()
    for made in (Listener, Broadcaster):
        with pytest.raises(ConfigurationError) as caught:
            made.from_config(config, **{"backend": BACKEND, **overrides})
        said.add(str(caught.value))
    (text,) = said
    assert "\n" not in text
    assert SECRET not in text
    return text
