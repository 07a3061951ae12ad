"""The arguments of ``pglisten log``, and its help texts."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

__all__ = ["add_log"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Seconds in a unit of ``--older-than``."""

LOG = """\
Event logs: tables that are only added to, whose readers miss no entry, not even
while they are not connected.

examples:
  pglisten log create events
  pglisten log append events orders 'number 17'
  pglisten log follow events orders --after 0
  pglisten log trim events --older-than 7d

Plain SQL adds entries too: INSERT INTO events (channel, payload) VALUES (...).
"""

CREATE = """\
Make the tables of a log, in one transaction. It changes nothing if they are
there. Your user becomes their owner; the documentation has the GRANTs for
others. --sql prints the statement, for a migration.
"""

APPEND = """\
Add one entry; return when the server has committed it.

examples:
  pglisten log append events orders 'number 17'
  pglisten log append events orders -- -17
  date | pglisten log append events orders -
"""

FOLLOW = """\
Print each entry once, in the order of commits, until Ctrl-C: when it was made,
position, channel and payload, separated by tabs. Unprintable characters are
escaped and backslashes doubled. For programs use --json.

After a lost connection it continues where it was, and nothing is missing. The
exit statuses of --count and --timeout are those of pglisten listen.
Standard error reports what happens to the connection, and "gap" where trim has
removed entries before they were read.
"""

TRIM = """\
Remove entries that are older, except the newest ones that --keep says. Either
option is enough. Readers that have not read what is removed are told. It works
in small steps: stopped, it has removed a part.
"""

STATUS = """\
Print the positions and the size of a log, and how far its consumers are. It
counts all entries.
"""

DROP = """\
Remove a log with all its entries. It wants --yes.
"""

Add = Callable[..., argparse.ArgumentParser]
AddConnection = Callable[[argparse.ArgumentParser], None]
AddLimits = Callable[[argparse.ArgumentParser, str], None]
Action = Callable[[str, str, str], argparse.ArgumentParser]


def add_log(
    commands: Any, add: Add, add_connection: AddConnection, add_limits: AddLimits
) -> argparse.ArgumentParser:
    """Add ``log`` and its commands. ``action`` is the name of the chosen one."""
    log = add(commands.add_parser, "log", help="event logs, of which nothing is missed", description=LOG)
    log.add_argument("-h", "-?", "--help", action="help", help="show this help; also after a command")
    actions: Any = log.add_subparsers(title="commands", metavar="COMMAND", required=True, dest="action")

    def action(name: str, text: str, about: str) -> argparse.ArgumentParser:
        made = add(actions.add_parser, name, help=about, description=text)
        made.add_argument("name", metavar="NAME", help="name of the log; case matters")
        made.add_argument("--schema", default="public", help="schema of its tables (default: public)")
        return made

    create = action("create", CREATE, "make a log")
    create.add_argument("--sql", action="store_true", help="print the statement and run nothing")
    append = action("append", APPEND, "add an entry")
    append.add_argument("channel", metavar="CHANNEL", help="channel of the entry; case matters")
    append.add_argument(
        "payload",
        metavar="PAYLOAD",
        help="up to 16 MiB of UTF-8; - reads it from standard input, without one newline at the end",
    )
    follow = _add_follow(action, add_limits)
    trim = action("trim", TRIM, "remove old entries")
    trim.add_argument(
        "--older-than", metavar="AGE", type=_age, help="age in seconds, or with a unit: 90s, 30m, 12h, 7d, 2w"
    )
    trim.add_argument("--keep", metavar="N", type=_whole, help="number of newest entries to keep")
    status = action("status", STATUS, "print how a log and its consumers are")
    status.add_argument("--json", action="store_true", help="print one object, with all figures")
    drop = action("drop", DROP, "remove a log and its entries")
    drop.add_argument("--yes", action="store_true", help="confirm it")
    for each in (create, append, follow, trim, status, drop):
        add_connection(each)
    return log


def _add_follow(action: Action, add_limits: AddLimits) -> argparse.ArgumentParser:
    follow = action("follow", FOLLOW, "print entries")
    follow.add_argument("channels", metavar="CHANNEL", nargs="*", help="channel to follow (default: all)")
    follow.add_argument(
        "--after",
        metavar="N",
        type=_whole,
        help="begin after this position; 0: with the oldest (default: with the next new entry)",
    )
    follow.add_argument(
        "--json",
        action="store_true",
        help='print one object per line: "position", "channel", "payload", "created"',
    )
    add_limits(follow, "entries")
    return follow


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"write a whole number from 0 up, not {text!r}")
    return int(text)


def _age(text: str) -> float:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"write seconds or a number with s, m, h, d or w, not {text!r}")
    return float(found[1]) * UNITS[found[2] or "s"]
