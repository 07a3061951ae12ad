"""The command line: ``pglisten listen``, ``notify``, ``log``, ``doctor`` and ``demo``.

Each command is prepared before it runs. The preparation checks all arguments and changes nothing, so that a
command with exit status 2 has changed nothing. The exception is a private server of the demo that fails.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence

from .._conninfo.urls import Dsn
from ..backend import Backend
from ..errors import Error
from ..testing.postgres.server import PrivatePostgresError
from . import demo, listen, log, notify
from .arguments import parser
from .doctor import command as doctor
from .ending import Work, complain

__all__ = ["main", "whole_parser"]


def main(
    argv: Sequence[str] | None = None, *, dsn: Dsn | None = None, backend: str | Backend | None = None
) -> int:
    """Run the command in *argv* (``None``: the arguments of this process) and return its exit status.

    *dsn* and *backend* take the place of ``PGLISTEN_DSN`` and ``PGLISTEN_BACKEND`` of the environment.
    """
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # See pglisten.__main__.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _run(argv, dsn, backend)
    except KeyboardInterrupt:  # Before the command handles it, for example while reading a payload.
        return 128 + signal.SIGINT


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser with all commands; what it parses has a function ``prepare``."""
    return parser(
        listen=listen.prepare,
        notify=notify.prepare,
        log=log.prepare,
        doctor=doctor.prepare,
        demo=demo.prepare,
    )


def _run(argv: Sequence[str] | None, dsn: Dsn | None, backend: str | Backend | None) -> int:
    read = whole_parser()
    if not (sys.argv[1:] if argv is None else argv):
        read.exit(2, read.format_help())  # On standard error: a script that forgot the command has failed.
    arguments: argparse.Namespace = read.parse_args(argv)
    arguments.configured = dsn
    if arguments.backend is None and arguments.prepare is not demo.prepare:
        arguments.backend = backend
    # The listener logs failed attempts as warnings; this command line prints them itself.
    logging.getLogger("pglisten.listener").setLevel(logging.ERROR)
    try:
        work: Work = arguments.prepare(arguments)
    except ValueError as error:  # every refusal of an argument or setting is one: see pglisten.errors
        return complain(error, 2)
    try:
        return work()
    except PrivatePostgresError as error:
        return complain(error, 2)
    except Error as error:
        return complain(error, 1)
