"""``manage.py pglisten`` is pglisten's command line, with a database of the project."""
# pyright: basic

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...._cli.main import main
from ....broadcast import Broadcaster
from ....errors import ConfigurationError
from ..._dsn import dsn, is_default

__all__ = ["Command"]

_own = argparse.ArgumentParser(prog="manage.py pglisten", add_help=False, allow_abbrev=False)
"""Options of Django's. They may stand anywhere before a ``--``."""
for _names in (("--database",), ("--settings",), ("--pythonpath",), ("--verbosity", "-v")):
    _own.add_argument(*_names)
for _option in ("--no-color", "--force-color", "--skip-checks", "--traceback"):
    _own.add_argument(_option, action="store_true")

HELP = """\
--database NAME names one of DATABASES. Otherwise the database is that of the
setting PGLISTEN_DSN, or DATABASES["default"]. What follows is the help of
pglisten; the environment variable PGLISTEN_DSN in it does not count here.
"""


class Command(BaseCommand):
    """Run a command of pglisten; print what it prints, and end with its exit status."""

    help = "pglisten's command line: listen, notify, log, doctor."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it for ``manage.py``: all options but Django's are pglisten's."""
        try:
            status = _run(argv[2:])
        except ConfigurationError as error:
            self.stderr.write(str(error))
            status = 2
        sys.exit(status)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print pglisten's help, for ``manage.py help pglisten``."""
        self.run_from_argv([prog_name, subcommand, "--help"])

    def add_arguments(self, parser: Any) -> None:
        """Take arguments of ``call_command``."""
        parser.add_argument("--database")
        parser.add_argument("arguments", nargs=argparse.REMAINDER)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it for ``call_command``; a status other than 0 is a ``CommandError``."""
        try:
            status: Any = _run(options["arguments"], options["database"])
        except SystemExit as ended:  # The usage was wrong.
            status = ended.code
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from None
        if status:
            raise CommandError(f"pglisten ended with status {status}", returncode=status)


def _run(arguments: Sequence[str], database: str | None = None) -> int:
    own, rest = _own.parse_known_args(arguments)
    alias = database if own.database is None else own.database
    options = rest[: rest.index("--")] if "--" in rest else rest
    if alias is not None and any(each.startswith(("--dsn", "--dbname", "-d")) for each in options):
        raise ConfigurationError("--database and --dsn, -d or --dbname both name a database: leave one out")
    if own.no_color:
        os.environ["NO_COLOR"] = "1"
    if {"--help", "-?"} & {*options} or options[:1] == ["-h"]:  # Also with wrong settings.
        sys.stdout.write(f"{HELP}\n")
        sys.stdout.flush()
        return main(rest)
    given: Any = {}
    if alias is not None or is_default():
        given["dsn"] = dsn("default" if alias is None else alias)
    Broadcaster.from_config(settings, **given)  # Raises for a setting that the command itself has no use for.
    configured = given.get("dsn") or getattr(settings, "PGLISTEN_DSN", None)
    return main(rest, dsn=configured, backend=getattr(settings, "PGLISTEN_BACKEND", None) or None)
