"""The demo's output in the terminal: one line for each event, in three columns."""

from __future__ import annotations

import enum
import shutil
import textwrap
import time
from collections.abc import Callable, Sequence

from .._cli.output import Output
from .._text import one_line

__all__ = ["Look", "Screen"]


class Look(enum.Enum):
    """The kind of an event; the value is its colour, as parameters of SGR (ECMA-48, 8.3.117)."""

    PLAIN = ""
    QUIET = "2"
    GOOD = "32"
    BAD = "31"
    GAP = "1;33"


_WHO = ("36", "35", "34")
"""Cyan, magenta, blue for the backends: no colour that means good or bad."""

_OTHERS = ("server", "sender")
"""The other names in the second column, beside the backends."""


class Screen:
    """Prints the time since `restart_clock`, a name and a text; *names* are the backends."""

    def __init__(
        self,
        output: Output,
        *,
        coloured: bool,
        names: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._coloured = coloured
        self._clock = clock
        self._start = clock()
        self._width = max(map(len, (*names, *_OTHERS)))
        self._colours = {name: _WHO[number % len(_WHO)] for number, name in enumerate(names)}

    def restart_clock(self) -> None:
        """Start the shown time at zero."""
        self._start = self._clock()

    def tell(self, who: str, what: str, look: Look = Look.PLAIN) -> None:
        """Print *what*, in several lines on a narrow terminal. Waits for a slow reader."""
        elapsed = max(0.0, self._clock() - self._start)
        self.lines(f"{elapsed:6.2f} s  ", who, one_line(what), look)

    def lines(self, when: str, who: str, what: str, look: Look = Look.PLAIN) -> None:
        """Print *what* beside *when* and *who*, as `tell` does."""
        indent = len(when) + self._width + 2
        first, *rest = self._wrapped(what, indent)
        name = self._paint(f"{who:<{self._width}}", self._colours.get(who, Look.QUIET.value))
        self._output.line(f"{self._paint(when, Look.QUIET.value)}{name}  {self._paint(first, look.value)}")
        for part in rest:
            self._output.line(" " * indent + self._paint(part, look.value))

    def title(self, text: str) -> None:
        """Print a line without columns."""
        for part in self._wrapped(text, 0):
            self._output.line(self._paint(part, "1"))

    def _wrapped(self, text: str, indent: int) -> list[str]:
        # Lines in a file or a pipe are not wrapped, so that grep finds their text.
        room = max(20, shutil.get_terminal_size().columns - indent) if self._coloured else len(text)
        return textwrap.wrap(text, max(1, room)) or [""]

    def _paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._coloured and colour else text
