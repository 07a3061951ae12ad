"""``manage.py pglisten`` is pglisten's command line, with a database of the project."""
# pyright: basic

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ...._cli.main import main
from ....errors import ConfigurationError
from ... import dsn, is_default

__all__ = ["Command"]

OWN = ("--database", "--settings", "--pythonpath")
"""Options of Django's. They may stand anywhere before a ``--``."""


class Command(BaseCommand):
    """Run a command of pglisten; print what it prints, and end with its exit status."""

    help = "pglisten's command line: listen, notify, log, doctor."
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Run it for ``manage.py``: all options but Django's are pglisten's."""
        own, arguments = _split(argv[2:])
        try:
            status = _run(arguments, own.get("--database"))
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
        parser.add_argument("arguments", nargs="*")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it for ``call_command``; a status other than 0 is a ``CommandError``."""
        try:
            status = _run(options["arguments"], options["database"])
        except ConfigurationError as error:
            raise CommandError(str(error), returncode=2) from None
        if status:
            raise CommandError(f"pglisten ended with status {status}", returncode=status)


def _run(arguments: Sequence[str], database: str | None) -> int:
    return main(
        arguments,
        dsn=dsn(database or "default")
        if database or is_default()
        else getattr(settings, "PGLISTEN_DSN", None),
        backend=getattr(settings, "PGLISTEN_BACKEND", None) or None,
    )


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return Django's options, and the other arguments."""
    own: dict[str, str] = {}
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        name, given, value = word.partition("=")
        if word == "--":
            return own, [*rest, word, *words]
        if name in OWN:
            own[name] = value if given else next(words, "")
        else:
            rest.append(word)
    return own, rest
