"""Prints the doctor's findings: lines for users, or one JSON object for programs."""

from __future__ import annotations

import json
import shutil
import textwrap

from ..._text import one_line
from ..output import Output
from .verdicts import Status, Verdict

__all__ = ["Report"]

_COLOURS = {Status.OK: "32", Status.WARNING: "1;33", Status.FAILED: "1;31"}
"""Parameters of SGR (ECMA-48, 8.3.117)."""

_NARROWEST = 20
"""Fewest columns for a text, even in a narrow terminal."""


class Report:
    """Prints each finding at once, or as JSON all of them at the end; *names* are those of the checks.

    *for_terminal* wraps the lines. A file or a pipe gets one line per finding, so that grep shows all of it.
    """

    def __init__(
        self, output: Output, *, as_json: bool, for_terminal: bool, coloured: bool, names: tuple[str, ...]
    ) -> None:
        self._output = output
        self._as_json = as_json
        self._coloured = coloured and not as_json
        self._columns = shutil.get_terminal_size().columns if for_terminal else None
        self._statuses_width = max(len(status.value) for status in _COLOURS)
        self._names_width = max(map(len, names))
        self._findings: list[tuple[str, Verdict]] = []

    @property
    def ok(self) -> bool:
        """Whether no check has failed so far."""
        return all(verdict.status is not Status.FAILED for _, verdict in self._findings)

    def add(self, name: str, verdict: Verdict) -> None:
        """Store a finding; print it, unless it was skipped or the output is JSON."""
        verdict = verdict._replace(
            found=one_line(verdict.found), remedy=None if verdict.remedy is None else one_line(verdict.remedy)
        )
        self._findings.append((name, verdict))
        if self._as_json or verdict.status is Status.SKIPPED:
            return
        head = f"{verdict.status.value:<{self._statuses_width}}  {name:<{self._names_width}}  "
        first, *rest = self._wrapped(verdict.found, len(head)) or [""]
        status = self._paint(head[: self._statuses_width], verdict.status)
        self._output.line(f"{status}{head[self._statuses_width :]}{first}")
        for line in (*rest, *self._wrapped(f"-> {verdict.remedy}" if verdict.remedy else "", len(head))):
            self._output.line(" " * len(head) + line)

    def end(self, backend: str | None) -> None:
        """Print the summary or the JSON object; *backend* is a name, ``None`` if there is none."""
        if not self._as_json:
            self._output.line(self._summary())
            return
        checks = [
            {"name": name, "status": status.value, "found": found, "remedy": remedy}
            for name, (status, found, remedy) in self._findings
        ]
        # json.dumps writes ASCII, which is safe in every terminal and encoding.
        self._output.line(json.dumps({"ok": self.ok, "backend": backend, "checks": checks}))

    def _summary(self) -> str:
        statuses = [verdict.status for _, verdict in self._findings]
        counts = {
            "failed": statuses.count(Status.FAILED),
            "with a warning": statuses.count(Status.WARNING),
            "left out": statuses.count(Status.SKIPPED),
        }
        told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        return f"{len(statuses)} checks: {told or 'all is well'}"

    def _wrapped(self, text: str, indent: int) -> list[str]:
        if self._columns is None or not text:
            return [text] if text else []
        room = max(_NARROWEST, self._columns - indent - 1)
        return textwrap.wrap(text, room, break_on_hyphens=False)

    def _paint(self, text: str, status: Status) -> str:
        return f"\x1b[{_COLOURS[status]}m{text}\x1b[0m" if self._coloured else text
