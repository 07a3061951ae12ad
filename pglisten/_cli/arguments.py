"""The arguments of ``pglisten``, and its help texts.

The options that name a database are psql's, in every command. So ``-h`` is a host, and only ``--help`` helps.
"""

from __future__ import annotations

import argparse
import math
import shutil
from functools import partial
from typing import Any, NoReturn

from .. import __version__
from . import texts
from .log_arguments import add_log

__all__ = ["parser"]

SHORTEST_DEMO = 5.0
"""Seconds. Half of them must allow a second of downtime, the reconnect, and a few more notifications."""

SHORTEST_TIMEOUT = 0.1
"""Seconds for ``listen`` and ``log follow``, and for a step of the doctor: even a fast server needs some
milliseconds."""

MOST_WORKERS = 32
"""Most workers of the demo: each takes a process and a session, and a private server has 120 sessions."""

MOST_COUNTED = 10**12
"""Most items to wait for: at a million a second, that takes eleven days."""

WIDTH = 80
"""Most columns of a help text: the width of a plain terminal."""


class _Parser(argparse.ArgumentParser):
    """Explains ``-h`` to users who expect help of it, and shows the usage of the command that is wrong."""

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - it has overloads
        self, args: Any = None, namespace: Any = None
    ) -> Any:
        # argparse leaves what a command does not know to the outermost parser, which shows its own usage.
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # argparse takes names only where they stand together.
            order = "" if unknown[0].startswith("-") else " (write options before all names, or after them)"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{order}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        if message.startswith("argument -h/--host: expected"):
            message += " (for help write --help)"
        super().error(message)


def parser(**prepare: object) -> argparse.ArgumentParser:
    """Return the parser; *prepare* has a value per command, which parsing returns as ``prepare``."""
    top = _add(_Parser, prog="pglisten", description=texts.MAIN, epilog=texts.ENVIRONMENT)
    top.add_argument("-h", "-?", "--help", action="help", help="show this help; also after a command")
    top.add_argument("--version", action="version", version=f"pglisten {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listen = _add_listen(commands)
    notify = _add(commands.add_parser, "notify", help="send one notification", description=texts.NOTIFY)
    notify.add_argument("channel", metavar="CHANNEL", help="channel to send to; case matters")
    notify.add_argument(
        "payload",
        metavar="PAYLOAD",
        nargs="?",
        help="up to 7999 bytes of UTF-8; - reads it from standard input, without one newline at the end",
    )
    _add_connection(notify)

    doctor, demo = _add_doctor(commands), _add_demo(commands)
    log = add_log(commands, _add, _add_connection, _add_limits)
    made = {"listen": listen, "notify": notify, "log": log, "doctor": doctor, "demo": demo}
    for name, command in made.items():
        command.set_defaults(prepare=prepare[name])
    return top


def _add_listen(commands: Any) -> argparse.ArgumentParser:
    listen = _add(commands.add_parser, "listen", help="print notifications", description=texts.LISTEN)
    listen.add_argument("channels", metavar="CHANNEL", nargs="+", help="channel to listen to; case matters")
    form = listen.add_mutually_exclusive_group()
    form.add_argument(
        "--json", action="store_true", help='print one object per line: "time", "channel", "pid", "payload"'
    )
    form.add_argument(
        "--payload-only",
        action="store_true",
        help="print the payload and a newline; unchanged, except on a terminal",
    )
    _add_limits(listen, "notifications")
    listen.add_argument(
        "--retry",
        action="store_true",
        help="keep trying even if the server refuses the login or the database at first",
    )
    _add_connection(listen)
    return listen


def _add_doctor(commands: Any) -> argparse.ArgumentParser:
    doctor = _add(
        commands.add_parser,
        "doctor",
        help="find out why notifications do not arrive",
        description=texts.DOCTOR,
    )
    doctor.add_argument(
        "--json",
        action="store_true",
        help='print one object: "ok", "backend", and "checks" with "name", "status", "found", "remedy"',
    )
    doctor.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=partial(_seconds, least=SHORTEST_TIMEOUT),
        default=10.0,
        help="limit of each step over the network (default: 10); a connect_timeout of the connection string "
        "takes precedence for connecting",
    )
    _add_connection(doctor)
    return doctor


def _add_demo(commands: Any) -> argparse.ArgumentParser:
    demo = _add(commands.add_parser, "demo", help="see it work, without a PostgreSQL", description=texts.DEMO)
    demo.add_argument(
        "--seconds",
        type=partial(_seconds, least=SHORTEST_DEMO),
        help=f"duration, at least {SHORTEST_DEMO:g} (default: until Ctrl-C; in the terminal 15)",
    )
    demo.add_argument("--terminal", action="store_true", help="show it in the terminal, not on a page")
    demo.add_argument(
        "--web-host",
        metavar="HOST",
        help="address to serve the page on (default: 127.0.0.1, which no other machine can reach)",
    )
    demo.add_argument(
        "--web-port",
        metavar="PORT",
        type=partial(_number, most=65535),
        help="port of the page (default: any free port)",
    )
    demo.add_argument(
        "--workers",
        type=partial(_number, most=MOST_WORKERS),
        help=f"worker processes of gunicorn, at most {MOST_WORKERS} (default: one per backend, at least 2)",
    )
    demo.add_argument(
        "--log",
        action="store_true",
        help="make an event log in the database of the server that you name, and drop it at the end",
    )
    _add_connection(
        demo,
        dsn="connection string of a server to use instead of a private one",
        backend="show this backend only",
    )
    return demo


def _add(make: Any, *args: str, **keywords: Any) -> argparse.ArgumentParser:
    # With psql, -h is the host.
    keywords["add_help"] = False
    columns = min(WIDTH, shutil.get_terminal_size().columns)
    made: argparse.ArgumentParser = make(
        *args,
        # An abbreviation that works today may be ambiguous after the next option is added.
        allow_abbrev=False,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=columns),
        **keywords,
    )
    return made


def _add_limits(command: argparse.ArgumentParser, items: str) -> None:
    command.add_argument(
        "--count",
        metavar="N",
        type=partial(_number, most=MOST_COUNTED),
        help=f"end after N {items} (default: never)",
    )
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=partial(_seconds, least=SHORTEST_TIMEOUT),
        help="end after this time, connecting included (default: never)",
    )


def _add_connection(
    command: argparse.ArgumentParser, *, dsn: str = texts.DSN, backend: str = texts.BACKEND
) -> None:
    command.add_argument("--help", "-?", action="help", help="show this help")
    connection = command.add_argument_group("connection, with psql's options", description=texts.PRECEDENCE)
    connection.add_argument("--dsn", help=dsn)
    connection.add_argument(
        "-d", "--dbname", metavar="NAME", help="database, or a whole connection string in place of --dsn"
    )
    connection.add_argument("-h", "--host", help="host name, address, or directory of the Unix socket")
    connection.add_argument("-p", "--port", help="port of the server")
    connection.add_argument("-U", "--username", metavar="NAME", help="user to log in as")
    connection.add_argument("--backend", help=backend)


def _number(text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise argparse.ArgumentTypeError(f"write a whole number from 1 to {most}, not {text!r}")
    return int(text)


def _seconds(text: str, *, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"write a number of seconds from {least:g} up, not {text!r}")
    return value
