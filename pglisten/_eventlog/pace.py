"""Lets other greenlets run while many followers take from the window at once.

gevent runs callbacks for five milliseconds, and always fifty of them, before it looks at timers and
descriptors. If each follower gave way by itself, after its own share, fifty others would take theirs first.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from gevent import get_hub
from greenlet import getcurrent, greenlet

__all__ = ["FOLLOW", "Pace"]

PORTION = 512
"""Entries that the followers of a log take together before other greenlets run: about a millisecond."""

FOLLOW = 8
"""What a new follower costs, and waking a greenlet, in entries."""


class Pace:
    """Share the turns of the event loop out.

    ``left`` is what may still be taken in this turn. A greenlet that finds nothing left calls `wait`.
    """

    __slots__ = ("_asked", "_waiting", "left")

    def __init__(self) -> None:
        self.left = PORTION
        self._waiting: OrderedDict[greenlet, None] = OrderedDict()
        self._asked = False
        """Whether the event loop will call `_turn`."""

    def wait(self) -> None:
        """Wait until the event loop has had a turn. The event loop itself cannot wait: return at once."""
        hub, me, waiting = get_hub(), getcurrent(), self._waiting
        try:
            if me is not hub:
                waiting[me] = None
                self._ask()
            # `_turn` has removed the greenlets to which it switches.
            while me in waiting:
                hub.switch()
        finally:
            waiting.pop(me, None)
            # Break a cycle: frame, greenlet, its exception, traceback, frame.
            del me

    def _ask(self) -> None:
        if not self._asked:
            self._asked = True
            # Runs after everything else that the loop finds in this turn.
            timer = get_hub().loop.timer(0.0, priority=-1)
            timer.start(self._turn, timer)

    def _turn(self, timer: Any) -> None:
        """Begin a new portion, and switch to those that wait while there is something left of it."""
        timer.close()
        self._asked, self.left = False, PORTION
        try:
            while self._waiting and self.left > 0:
                self.left -= FOLLOW
                self._waiting.popitem(last=False)[0].switch()
        finally:
            # One of the greenlets may have raised an exception, which the hub reports. Wake the others too.
            if self._waiting:
                self._ask()
