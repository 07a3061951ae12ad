"""``pglisten doctor`` prints what its checks find."""

from __future__ import annotations

import argparse
import logging
import sys

from ..._conninfo.urls import Dsn
from ...errors import ConfigurationError
from ..ending import Work, exit_status
from ..output import Output, is_terminal, wants_colour
from ..stopping import until_stopped
from ..target import dsn
from .checks import CHECKS, Diagnosis
from .report import Report

__all__ = ["prepare"]


def prepare(arguments: argparse.Namespace) -> Work:
    """Return what runs the checks. They report a bad connection string too."""
    # Check and log nothing here: the doctor reports errors of the DSN and the backend, and what backends and
    # the password file warn of.
    logging.getLogger("pglisten").setLevel(logging.ERROR)
    source: Dsn | ConfigurationError
    try:
        source = dsn(arguments)
    except ConfigurationError as error:
        source = error
    diagnosis = Diagnosis(source, arguments.backend, arguments.timeout)

    def work() -> int:
        stdout = Output(sys.stdout)
        report = Report(
            stdout,
            as_json=arguments.json,
            for_terminal=is_terminal(),
            coloured=wants_colour(),
            names=tuple(check.name for check in CHECKS),
        )

        def examine() -> None:
            for name, verdict in diagnosis.run():
                report.add(name, verdict)
            report.end(diagnosis.backend)

        stopped_by = until_stopped(examine, stdout)
        if stopped_by is not None:
            return 128 + stopped_by
        return exit_status(stdout) or int(not report.ok)

    return work
