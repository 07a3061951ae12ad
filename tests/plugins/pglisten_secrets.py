"""Passwords and payloads that cannot be mistaken, and a search of every place where they could show.

Each piece of a password between two characters that mean something somewhere has `MARK` in it. So it is found
however it is quoted, encoded, escaped or cut: letters stay letters in all of that.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import traceback
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import NamedTuple

import pytest

MARK = "Qzxv"
"""In every piece of every password."""

PASSWORDS = {
    "plain": f"{MARK}Sesame{MARK}",
    "odd": MARK.join(("", "'", '"', "\\", "@", "%", ":", "/", " ", "?", "=", "&", "#", ",", "{0}", "ä", "")),
}

PAYLOAD_MARK = "Jkwv"
PAYLOAD = f"{PAYLOAD_MARK}'{PAYLOAD_MARK}\\{PAYLOAD_MARK}"

PACKAGES = ("pglisten", "pglisten_psycopg2", "pglisten_pg8000", "psycopg2", "pg8000")
"""Whose frames are searched: ours, and what ours call with a password."""


def _folders() -> tuple[str, ...]:
    specs = [importlib.util.find_spec(name) for name in PACKAGES]
    return tuple(f"{os.path.dirname(str(spec.origin))}/" for spec in specs if spec is not None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it, what nobody is shown included."""
    links, ids = [error], set[int]()
    while links:
        link = links.pop()
        if id(link) not in ids:
            ids.add(id(link))
            yield link
            links += filter(None, (link.__cause__, link.__context__))


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return repr(value)
    except AttributeError:
        return f"a {type(value).__name__} that is not made yet"


class Trace(NamedTuple):
    where: str
    text: str
    payload_allowed: bool
    """Whether it is a place where the user's own payload belongs."""


class Searched(logging.Handler):
    """Everything that was logged, raised, shown and printed."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        super().__init__(logging.DEBUG)
        self.traces: list[Trace] = []
        self._capfd = capfd
        self._folders = _folders()
        self._levels: dict[logging.Logger, int] = {}

    def listen_to_all(self) -> None:
        """Have every logger that there is say everything."""
        known = [
            logger
            for logger in logging.root.manager.loggerDict.values()
            if isinstance(logger, logging.Logger)
        ]
        for logger in (logging.root, *known):
            self._levels.setdefault(logger, logger.level)
            logger.setLevel(logging.DEBUG)

    def forget(self) -> None:
        for logger, level in self._levels.items():
            logger.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        where = f"log of {record.name}"
        self._add(where, self.format(record))
        self._add(f"{where}, its parts", repr(vars(record)))
        if record.exc_info and record.exc_info[1] is not None:
            self.error(record.exc_info[1])

    def show(self, *things: object) -> None:
        """Look at things as a debugger shows them."""
        for thing in things:
            self._add(f"a {type(thing).__name__}", f"{thing!r} {thing}")
            if isinstance(thing, BaseException):
                self.error(thing)

    def error(self, error: BaseException, own: Collection[object] = ()) -> None:
        """Look at an error, at what led to it, and at the variables in all their frames.

        *own* are the arguments of a call that has raised it. Its frames hold them, and there is no help for
        that: they are the caller's own text, and the caller's own frame has them too.
        """
        self.words(error)
        for link in _chain(error):
            for place, variable, text in self._variables(link.__traceback__):
                if text not in own:
                    # In frames of the call itself a payload is an argument like any other, quoted or not.
                    where = f"{variable} at {place} in a {type(link).__name__}"
                    self._add(where, text, payload_allowed=link is error)

    def words(self, error: BaseException) -> None:
        """Look at what an error says, and at what led to it."""
        self._add("a formatted traceback", "".join(traceback.format_exception(error)))
        for link in _chain(error):
            public = {key: getattr(link, key, None) for key in dir(link) if not key.startswith("_")}
            text = f"{link!r} {link} {link.args!r} {vars(link)!r} {public!r}"
            self._add(f"{type(link).__name__} that led to {error!r}", text)

    def _variables(self, trace: TracebackType | None) -> Iterator[tuple[str, str, str]]:
        for frame, line in traceback.walk_tb(trace):
            path = frame.f_code.co_filename
            if path.startswith(self._folders):
                for name, value in frame.f_locals.items():
                    yield f"{path}:{line} ({frame.f_code.co_name})", name, _shown(value)

    def output(self, *, payload_allowed: bool = False) -> str:
        """Look at what was printed since the last call, and return it."""
        out, err = self._capfd.readouterr()
        self._add("standard output", out, payload_allowed=payload_allowed)
        self._add("standard error", err)
        return out + err

    def leaks(self) -> list[str]:
        """Return where there is a secret, with what is around it."""
        self.output()
        return [
            f"{trace.where}: ...{trace.text[max(0, at - 200) : at + 100]}"
            for trace in self.traces
            for mark in (MARK, *([] if trace.payload_allowed else [PAYLOAD_MARK]))
            # A host name, for one, is made lower case.
            if (at := trace.text.lower().find(mark.lower())) >= 0
        ]

    def _add(self, where: str, text: str, *, payload_allowed: bool = False) -> None:
        self.traces.append(Trace(where, text, payload_allowed))


@pytest.fixture
def searched(capfd: pytest.CaptureFixture[str]) -> Iterator[Searched]:
    """Collect what is logged and printed from here on, and have the test hand over the rest.

    The test fails if there is a secret in any of it.
    """
    made = Searched(capfd)
    made.listen_to_all()
    logging.root.addHandler(made)
    try:
        yield made
        leaks = made.leaks()
    finally:
        logging.root.removeHandler(made)
        made.forget()
    assert made.traces
    assert leaks == []
