"""Run ``pglisten doctor`` in this process, for its tests."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from pglisten._cli.doctor.checks import CHECKS
from pglisten._cli.main import main

SECRET = "must-not-be-shown"
"""A password, wrong or right: the tests search everything that is printed for it."""


class Finding(NamedTuple):
    """What a check found."""

    status: str
    found: str
    remedy: str | None


class Findings(dict[str, Finding]):
    """What all checks found, and the exit status."""

    exit_status: int

    @property
    def bad(self) -> dict[str, str]:
        """The statuses that are not ok; what was left out does not count."""
        return {name: each.status for name, each in self.items() if each.status not in ("ok", "skipped")}

    def says(self, name: str, found: str, remedy: str = "") -> bool:
        """Whether these patterns are in what a check found and advised."""
        return bool(re.search(found, self[name].found) and re.search(remedy, self[name].remedy or ""))


Examine = Callable[..., Findings]


def run(*arguments: str) -> int:
    """Run the doctor; return its exit status."""
    loggers = [logging.getLogger(name) for name in ("pglisten", "pglisten.listener")]
    levels = [logger.level for logger in loggers]
    try:
        return main(["doctor", *arguments])
    finally:
        # The command line normally has a process of its own.
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def examiner(capfd: pytest.CaptureFixture[str], backend_name: str) -> Examine:
    """Return a function that has the doctor examine a DSN, and looks at the shape of ``--json``."""

    def examine(dsn: str, *, timeout: float = 20.0, backend: str = backend_name) -> Findings:
        status = run("--json", "--dsn", dsn, "--backend", backend, "--timeout", str(timeout))
        output, said = capfd.readouterr()
        assert said == ""
        assert SECRET not in output
        told: dict[str, Any] = json.loads(output)
        assert list(told) == ["ok", "backend", "checks"]
        assert told["ok"] is (status == 0)
        assert told["backend"] in (backend, None)
        findings = Findings({each.pop("name"): Finding(**each) for each in told["checks"]})
        assert list(findings) == [check.name for check in CHECKS]
        assert (status == 1) is ("failed" in findings.bad.values())
        findings.exit_status = status
        return findings

    return examine
