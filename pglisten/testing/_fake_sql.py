"""The SQL that the fake server understands, parsed by PostgreSQL's rules.

::

    query      := [statement] (";" [statement])*
    statement  := LISTEN name | UNLISTEN (name | "*") | NOTIFY name ["," string] | SHOW name
                | SELECT value ("," value)* [WHERE (TRUE | FALSE)] | VALUES row ("," row)*
    row        := "(" value ("," value)* ")"
    value      := (string | number | NULL | TRUE | FALSE | call | count) ["::" qualified]
    call       := qualified "(" [value ("," value)*] ")"
    qualified  := ["pg_catalog" "."] word
    count      := "(" SELECT qualified "(" "*" ")" FROM relation ")"
    relation   := qualified "(" ")" | pg_stat_activity WHERE pid "=" number

A query is parsed whole before any of it runs: a syntax error in its last statement undoes the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .._sql import MAX_CHANNEL, READ_COMMITTED
from ..errors import ServerError

__all__ = ["Call", "Listen", "Notify", "Select", "Statement", "Unlisten", "Value", "parse"]

# The most likely of SQL's other commands: the fake refuses them as unsupported, not as a syntax error.
_UNSUPPORTED = re.compile(
    "abort|alter|analyze|begin|call|close|commit|copy|create|deallocate|declare|delete|discard|do|drop|end|"
    "execute|explain|fetch|grant|insert|lock|merge|prepare|reset|revoke|rollback|savepoint|set|start|"
    "table|truncate|update|vacuum|with"
)

_TOKEN = re.compile(
    r"""
      (?P<space>   \s+ | --[^\n]* )
    | (?P<comment> /\* )
    | (?P<escaped> [eE]'(?:[^'\\]|''|\\.)*' )
    | (?P<string>  '[^']*(?:''[^']*)*' )
    | (?P<name>    "[^"]*(?:""[^"]*)*" )
    | (?P<word>    [^\W\d][\w$]* )
    | (?P<number>  \d+(?:\.\d+)? )
    | (?P<symbol>  :: | . )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"''|\\(.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@dataclass(frozen=True)
class Listen:
    """``LISTEN channel``."""

    channel: str


@dataclass(frozen=True)
class Unlisten:
    """``UNLISTEN channel``; ``None`` stands for ``*``."""

    channel: str | None


@dataclass(frozen=True)
class Notify:
    """``NOTIFY channel, 'payload'``."""

    channel: str
    payload: str


@dataclass(frozen=True)
class Call:
    """A function and its arguments; the count of a relation's rows is the function ``count``."""

    function: str
    arguments: tuple[Value, ...]


@dataclass(frozen=True)
class Select:
    """``SELECT value, value``: values are evaluated in order, because functions have effects.

    ``VALUES`` has several rows, ``WHERE FALSE`` has none; ``SHOW`` returns a setting.
    """

    rows: tuple[tuple[Value, ...], ...]


Value = str | int | float | Call | None
"""``None`` is NULL; a boolean is the text that its cast gives."""
Statement = Listen | Unlisten | Notify | Select


class _Token(NamedTuple):
    kind: str  # string, name, word, number, symbol, or end
    text: str  # as written
    value: str  # without quotes; words folded to lower case


def parse(sql: str) -> list[Statement]:
    """Return the statements of *sql*, without the empty ones.

    Raises `ServerError` as PostgreSQL would: 42601 for a syntax error. 0A000 for SQL that
    the fake does not support. The prefix of the library's own queries is ignored.
    """
    return list(_Parser(sql.removeprefix(READ_COMMITTED)).statements())


def _unquote(text: str) -> str:
    quote = text[0]
    return text[1:-1].replace(quote * 2, quote)


def _unescape(match: re.Match[str]) -> str:
    character: str | None = match.group(1)
    return "'" if character is None else _ESCAPED.get(character, character)


def _tokens(sql: str) -> Iterator[_Token]:
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        assert match is not None  # a symbol may be any character
        position = match.end()
        kind, text = match.lastgroup or "", match.group()
        if kind == "comment":
            position = _end_of_comment(sql, position)
        elif kind == "escaped":
            yield _Token("string", text, _ESCAPE.sub(_unescape, text[2:-1]))
        elif kind in ("string", "name"):
            yield _Token(kind, text, _unquote(text))
        elif kind != "space":
            yield _Token(kind, text, text.lower() if kind == "word" else text)


def _end_of_comment(sql: str, position: int) -> int:
    depth = 1  # PostgreSQL's block comments nest
    for edge in _COMMENT_EDGE.finditer(sql, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise ServerError("unterminated /* comment", sqlstate="42601")


class _Parser:
    def __init__(self, sql: str) -> None:
        self._tokens = _tokens(sql)
        self._token = _Token("end", "", "")
        self._advance()

    def statements(self) -> Iterator[Statement]:
        commands: dict[str, Callable[[], Statement]] = {
            "listen": lambda: Listen(self._identifier()),
            "unlisten": self._unlisten,
            "notify": self._notify,
            "select": self._select,
            "show": lambda: Select(((Call("current_setting", (self._identifier(),)),),)),
            "values": self._rows,
        }
        while self._token.kind != "end":
            if self._accept(";"):
                continue
            word = self._token.value if self._token.kind == "word" else ""
            if _UNSUPPORTED.fullmatch(word):
                raise ServerError(
                    f"the fake server does not know {word.upper()}",
                    sqlstate="0A000",
                    hint="It knows LISTEN, UNLISTEN, NOTIFY, SHOW, VALUES and a few functions in SELECT.",
                )
            if word not in commands:
                raise self._syntax_error()
            self._advance()
            yield commands[word]()
            if self._token.kind != "end" and not self._accept(";"):
                raise self._syntax_error()

    def _unlisten(self) -> Unlisten:
        return Unlisten(None) if self._accept("*") else Unlisten(self._identifier())

    def _notify(self) -> Notify:
        channel = self._identifier()
        payload = self._take("string") if self._accept(",") else ""
        return Notify(channel, payload)

    def _identifier(self) -> str:
        if self._token.text == '""':
            raise ServerError('zero-length delimited identifier at or near """"', sqlstate="42601")
        name = self._take("name") if self._token.kind == "name" else self._take("word")
        # Truncate as the server does: with a NOTICE only, and never within a character.
        return name.encode()[:MAX_CHANNEL].decode(errors="ignore")

    def _select(self) -> Select:
        row = self._values()
        if self._accept("where") and not self._accept("true"):
            self._expect("false")
            return Select(())
        return Select((row,))

    def _rows(self) -> Select:
        rows = [self._row()]
        while self._accept(","):
            rows.append(self._row())
        return Select(tuple(rows))

    def _row(self) -> tuple[Value, ...]:
        self._expect("(")
        row = self._values()
        self._expect(")")
        return row

    def _values(self) -> tuple[Value, ...]:
        values = [self._value()]
        while self._accept(","):
            values.append(self._value())
        return tuple(values)

    def _value(self) -> Value:
        value: Value
        if self._token.kind == "string":
            value = self._take("string")
        elif self._token.kind == "number":
            value = self._number()
        elif self._accept("("):
            value = self._count()
        else:
            value = self._word()
        if self._accept("::"):
            self._qualified()
        return value

    def _word(self) -> Value:
        word = self._qualified()
        if word in ("true", "false"):
            return word
        if word == "null":
            return None
        self._expect("(")
        arguments = () if self._token.text == ")" else self._values()
        self._expect(")")
        return Call(word, arguments)

    def _qualified(self) -> str:
        if self._accept("pg_catalog"):
            self._expect(".")
        return self._take("word")

    def _count(self) -> Call:
        self._expect("select")
        if self._qualified() != "count":
            raise self._syntax_error()
        for expected in ("(", "*", ")", "from"):
            self._expect(expected)
        relation = self._qualified()
        arguments: tuple[Value, ...] = (relation,)
        if relation == "pg_stat_activity":
            for expected in ("where", "pid", "="):
                self._expect(expected)
            arguments = (relation, self._number())
        else:
            self._expect("(")
            self._expect(")")
        self._expect(")")
        return Call("count", arguments)

    def _number(self) -> int | float:
        text = self._take("number")
        return float(text) if "." in text else int(text)

    def _advance(self) -> None:
        self._token = next(self._tokens, _Token("end", "", ""))

    def _accept(self, symbol: str) -> bool:
        if self._token.kind not in ("symbol", "word") or self._token.value != symbol:
            return False
        self._advance()
        return True

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise self._syntax_error()

    def _take(self, kind: str) -> str:
        if self._token.kind != kind:
            raise self._syntax_error()
        value = self._token.value
        self._advance()
        return value

    def _syntax_error(self) -> ServerError:
        if self._token.kind == "end":
            return ServerError("syntax error at end of input", sqlstate="42601")
        return ServerError(f'syntax error at or near "{self._token.text}"', sqlstate="42601")
