"""Named greenlets: a name is what a person sees in a greenlet dump at night."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gevent
from greenlet import getcurrent

Greenlet: TypeAlias = "gevent.Greenlet[..., None]"


def spawn(name: str, run: Callable[..., None], *args: object) -> Greenlet:
    """Start *run* in a greenlet called *name*; the caller owns it, and stops it."""
    greenlet: Greenlet = gevent.spawn(run, *args)  # pyright: ignore[reportUnknownVariableType]
    greenlet.name = name  # pyright: ignore[reportAttributeAccessIssue] - the stubs lack the setter
    return greenlet


def current() -> Greenlet | None:
    """Return the running greenlet if it can be killed; ``None`` for a hub or a thread's main greenlet.

    By its method, not by its class: an APM agent (ddtrace) puts a subclass in place of `gevent.Greenlet`.
    """
    running: Any = getcurrent()
    return running if hasattr(running, "kill") else None


def let_others_run() -> None:
    """Go through the event loop once: greenlets, timers and descriptors that are ready have their turn.

    ``gevent.sleep(0)`` is no such turn: gevent runs up to fifty of those before it looks at the clock.
    """
    hub = gevent.get_hub()
    # Behind all else that the loop finds in this turn.
    hub.wait(hub.loop.timer(0.0, priority=-1))
