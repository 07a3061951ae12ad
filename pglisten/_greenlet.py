"""Named greenlets: a greenlet dump shows the names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gevent
from greenlet import getcurrent

Greenlet: TypeAlias = "gevent.Greenlet[..., None]"


def spawn(name: str, run: Callable[..., None], *args: object) -> Greenlet:
    """Start *run* in a greenlet called *name*; the caller owns it and must stop it."""
    greenlet: Greenlet = gevent.spawn(run, *args)  # pyright: ignore[reportUnknownVariableType]
    greenlet.name = name  # pyright: ignore[reportAttributeAccessIssue] - the stubs lack the setter
    return greenlet


def current() -> Greenlet | None:
    """Return the running greenlet if it can be killed; ``None`` for a hub or a thread's main greenlet.

    The method is checked, not the class: an APM agent (ddtrace) replaces `gevent.Greenlet` by a subclass.
    """
    running: Any = getcurrent()
    return running if hasattr(running, "kill") else None


def let_others_run() -> None:
    """Give the event loop one turn: greenlets, timers and descriptors that are ready run.

    ``gevent.sleep(0)`` does not: gevent runs up to fifty callbacks before it looks at the clock.
    """
    hub = gevent.get_hub()
    # Runs after everything else that the loop finds in this turn.
    hub.wait(hub.loop.timer(0.0, priority=-1))
