"""What libpq's texts say. Pure text handling: neither a driver nor gevent is needed for it.

With PQERRORS_VERBOSE, a message of the server reads::

    connection to server at "127.0.0.1", port 5432 failed: FATAL:  28P01: password authentication failed
    DETAIL:  ...
    LOCATION:  auth_failed, auth.c:326

where the first part is there on failed attempts only. Words may be localised, the order is not
(pqBuildErrorMessage3 in fe-protocol3.c). What libpq says itself has no code.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ServerMessage", "explain", "libpq_message", "one_line", "server_messages"]

# Severities are in any language, and may have blanks in them. A SQLSTATE of the server's own has a digit in
# it: "FATAL:  ERROR: ..." without codes must not pass for one.
_CODED = re.compile(r"(?:^|: )([^\s:][^:]*):  (?=[A-Z]*\d)([0-9A-Z]{5}): (.*)")
_UNCODED = re.compile(r"(?:^|: )(FATAL|PANIC):  (.*)")
_END = re.compile(
    # In libpq's language, which is English unless the application has called setlocale().
    r"LINE \d+: |(DETAIL|HINT|QUERY|CONTEXT|(SCHEMA|TABLE|COLUMN|DATATYPE|CONSTRAINT) NAME|LOCATION):  "
    # LOCATION in any: a function of the server, its file and line.
    r"|[^:]+:  (\w+, )?[\w./\\-]+\.\w+:\d+$"
    # What libpq says after the server's last words.
    r"|server closed the connection unexpectedly"
)
"""What follows a message's own lines."""
_INTRODUCTION = re.compile(r"^connection to server .*? failed: ")
_SHUTDOWN_CLASS = "57P"
"""SQLSTATEs of an administrator's doings: shutdowns, crashes, timeouts (PostgreSQL docs, appendix A)."""


class ServerMessage(NamedTuple):
    """One message of the server."""

    severity: str
    """In the server's language, if it comes from a text."""
    sqlstate: str | None
    message: str

    @property
    def ends_the_session(self) -> bool:
        """Whether the server hangs up after this.

        Besides FATAL and PANIC there is a WARNING with 57P02, "terminating connection because of crash
        of another server process".
        """
        return self.severity in {"FATAL", "PANIC"} or (self.sqlstate or "").startswith(_SHUTDOWN_CLASS)


def server_messages(text: str) -> list[ServerMessage]:
    """Return the server's messages in *text*, without repetitions, in order; ``[]`` if there is none.

    All lines of a message are in it, as one line, without its detail and its hint. Where verbosity could not
    be set there are no codes, and only FATAL and PANIC are recognised.
    """
    coded = any(map(_CODED.search, text.split("\n")))
    found: list[ServerMessage] = []
    unfinished = False
    for line in text.split("\n"):
        said = _read(line, coded=coded)
        introduction = _INTRODUCTION.match(line) is not None
        # Within a message, what looks like the beginning of another is part of it, unless it repeats it.
        if said is not None and (not unfinished or introduction or said[:2] == found[-1][:2]):
            found.append(said)
            unfinished = True
        elif introduction or _END.match(line):
            unfinished = False
        elif unfinished:
            found[-1] = found[-1]._replace(message=f"{found[-1].message}\n{line}")
    return list(dict.fromkeys(said._replace(message=one_line(said.message)) for said in found))


def _read(line: str, *, coded: bool) -> ServerMessage | None:
    """Return the message that begins in *line*, ``None`` if none does."""
    if coded:
        found = None if _END.match(line) else _CODED.search(line)
        return ServerMessage(*found.groups()) if found else None
    return ServerMessage(found[1], None, found[2]) if (found := _UNCODED.search(line)) else None


def one_line(text: str) -> str:
    """Return *text* with a blank for each break and run of blanks."""
    return " ".join(text.split())


def libpq_message(text: str) -> str:
    """Return libpq's own message in *text* on one line, without its introduction and its advice."""
    # Advice and explanation are continuation lines, which begin with a tab.
    lines = (_INTRODUCTION.sub("", line).strip() for line in text.splitlines() if not line.startswith("\t"))
    return "; ".join(dict.fromkeys(filter(None, lines)))


def explain(text: str) -> tuple[str, str | None]:
    """Return a failed attempt's or a lost connection's message on one line, and its SQLSTATE or ``None``.

    With ``sslmode=prefer`` there may be two refusals, with and without TLS; the last one's code counts.
    """
    said = server_messages(text)
    if not said:
        return libpq_message(text), None
    return "; ".join(words.message for words in said), said[-1].sqlstate
