"""Read messages of the server and of libpq from libpq's texts, without a driver and without gevent.

With PQERRORS_VERBOSE, a message of the server reads::

    connection to server at "127.0.0.1", port 5432 failed: FATAL:  28P01: password authentication failed
    DETAIL:  ...
    LOCATION:  auth_failed, auth.c:326

Only a failed attempt has the introduction before FATAL. Words may be localised, their order never changes
(pqBuildErrorMessage3 in fe-protocol3.c). libpq's own messages have no code.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ServerMessage", "explain", "libpq_message", "one_line", "server_messages"]

# A severity may be in any language and may contain blanks. A SQLSTATE of PostgreSQL contains a digit, and the
# pattern demands one: in "FATAL:  ERROR: ...", which has no code, "ERROR" is none.
_CODED = re.compile(r"(?:^|: )([^\s:][^:]*):  (?=[A-Z]*\d)([0-9A-Z]{5}): (.*)")
_UNCODED = re.compile(r"(?:^|: )(FATAL|PANIC):  (.*)")
_END = re.compile(
    # In libpq's language, which is English unless the application has called setlocale().
    r"LINE \d+: |(DETAIL|HINT|QUERY|CONTEXT|(SCHEMA|TABLE|COLUMN|DATATYPE|CONSTRAINT) NAME|LOCATION):  "
    # LOCATION in any language: a function of the server, its file and line.
    r"|[^:]+:  (\w+, )?[\w./\\-]+\.\w+:\d+$"
    # libpq's own message after the server's last one.
    r"|server closed the connection unexpectedly"
)
"""A line that does not belong to the message before it."""
_INTRODUCTION = re.compile(r"^connection to server .*? failed: ")
_SHUTDOWN_CLASS = "57P"
"""Class of SQLSTATEs, operator intervention: shutdowns, crashes, timeouts (PostgreSQL docs, appendix A)."""


class ServerMessage(NamedTuple):
    """One message of the server."""

    severity: str
    """In the server's language, if it was read from a text."""
    sqlstate: str | None
    message: str

    @property
    def ends_the_session(self) -> bool:
        """Whether the server closes the connection after this message.

        It does so after FATAL and PANIC, and after the WARNING 57P02, "terminating connection because of
        crash of another server process".
        """
        return self.severity in {"FATAL", "PANIC"} or (self.sqlstate or "").startswith(_SHUTDOWN_CLASS)


def server_messages(text: str) -> list[ServerMessage]:
    """Return the server's messages in *text*, in order and without repetitions; ``[]`` if there is none.

    A message has all of its lines, joined to one, without its detail and hint. If the verbosity could not be
    set, there are no codes, and only FATAL and PANIC are recognised.
    """
    coded = any(map(_CODED.search, text.split("\n")))
    found: list[ServerMessage] = []
    unfinished = False
    for line in text.split("\n"):
        started = _read(line, coded=coded)
        introduction = _INTRODUCTION.match(line) is not None
        # Within a message, a line that looks like the start of another one is part of the message, unless
        # severity and code are the same.
        if started is not None and (not unfinished or introduction or started[:2] == found[-1][:2]):
            found.append(started)
            unfinished = True
        elif introduction or _END.match(line):
            unfinished = False
        elif unfinished:
            found[-1] = found[-1]._replace(message=f"{found[-1].message}\n{line}")
    return list(dict.fromkeys(each._replace(message=one_line(each.message)) for each in found))


def _read(line: str, *, coded: bool) -> ServerMessage | None:
    """Return the message that begins in *line*, ``None`` if none does."""
    if coded:
        found = None if _END.match(line) else _CODED.search(line)
        return ServerMessage(*found.groups()) if found else None
    return ServerMessage(found[1], None, found[2]) if (found := _UNCODED.search(line)) else None


def one_line(text: str) -> str:
    """Return *text* with one blank for each run of white space."""
    return " ".join(text.split())


def libpq_message(text: str) -> str:
    """Return libpq's own message in *text* on one line, without its introduction and its advice."""
    # libpq writes advice and explanations as continuation lines, which begin with a tab.
    lines = (_INTRODUCTION.sub("", line).strip() for line in text.splitlines() if not line.startswith("\t"))
    return "; ".join(dict.fromkeys(filter(None, lines)))


def explain(text: str) -> tuple[str, str | None]:
    """Return the message of a failed attempt or a lost connection on one line, and its SQLSTATE or ``None``.

    With ``sslmode=prefer`` there may be two refusals, with and without TLS. The SQLSTATE is the last one's.
    """
    messages = server_messages(text)
    if not messages:
        return libpq_message(text), None
    return "; ".join(each.message for each in messages), messages[-1].sqlstate
