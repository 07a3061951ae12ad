"""Named greenlets: a name is what a person sees in a greenlet dump at night."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import gevent

Greenlet: TypeAlias = "gevent.Greenlet[..., None]"


def spawn(name: str, run: Callable[..., None], *args: object) -> Greenlet:
    """Start *run* in a greenlet called *name*; the caller owns it, and stops it."""
    greenlet: Greenlet = gevent.spawn(run, *args)  # pyright: ignore[reportUnknownVariableType]
    greenlet.name = name  # pyright: ignore[reportAttributeAccessIssue] - the stubs lack the setter
    return greenlet
