"""The grammar of libpq's connection strings, key=value and URI: text in, keywords and values out.

It follows ``conninfo_parse`` and ``conninfo_uri_parse_options`` of libpq 17 (fe-connect.c), except that an
``@`` in the host or the path of a URI is refused: the password then contains a character that must be
percent-encoded.

Most mistakes in a DSN are in its password (a space without quotes, a ``/`` without encoding). So no message
repeats text of the DSN, except names that can only be keywords.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_to_bytes

from ..errors import ConfigurationError
from .keywords import KEYWORDS, SECRETS, URI_PREFIXES, what_else

SPECIAL = frozenset({"requiressl", "ssl"})
"""Names that libpq accepts besides its keywords: a former keyword, and in a URI JDBC's ``ssl=true``."""

# C's isspace(), which libpq's parser uses; Python's \s matches many more characters.
_BLANK = r" \t\n\v\f\r"

# The lookahead refuses a value whose quote is never closed, which would match as a bare value.
_PAIR = re.compile(
    rf"""(?P<name>[^={_BLANK}]*)[{_BLANK}]*=[{_BLANK}]*
    (?: '(?P<quoted>(?:[^'\\]|\\.)*)' | (?!')(?P<bare>(?:[^\\{_BLANK}]|\\.)*)(?:\\\Z)? )[{_BLANK}]*""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_]{1,40}")  # what a message may repeat as an unknown keyword
_NETLOC = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?!\[)(?P<name>[^:/?,]*))(?::(?P<port>[^/?,]*))?(?=[,/?]|\Z)")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%00")
_PERCENT_HELP = "write a percent sign as %25, @ as %40, : as %3A and / as %2F"


def parse_dsn(dsn: str) -> dict[str, str]:
    """Return the keywords that *dsn* sets, with their values as written, empty ones included.

    Raises `ConfigurationError` if *dsn* is not a connection string, and for unknown keywords.
    """
    prefix = next(filter(dsn.startswith, URI_PREFIXES), "")
    try:
        return _collect(_uri(dsn[len(prefix) :]) if prefix else _pairs(dsn))
    except ConfigurationError as error:
        error.option = "dsn"
        raise


def _collect(settings: Iterator[tuple[str, str]]) -> dict[str, str]:
    """Check the keywords; as in libpq, the last of several settings of a keyword wins."""
    values: dict[str, str] = {}
    previous = ""
    for keyword, value in settings:
        if keyword == "requiressl":
            values["sslmode"] = "require" if value.startswith("1") else "prefer"
        elif keyword in KEYWORDS:
            values[keyword] = value
        else:
            raise ConfigurationError(_unknown(keyword, previous))
        previous = keyword
    return values


def _unknown(keyword: str, previous: str) -> str:
    if previous in SECRETS:
        # "password=my secret=x": the unknown keyword is a piece of the password.
        return (
            f"the DSN has an unknown keyword after {previous}: quote a value with spaces "
            "('...', with \\' for a quote inside), and in a URI write & as %26"
        )
    if not _NAME.fullmatch(keyword):
        return "the DSN has text before a = that is not a libpq keyword: write keyword=value"
    return f"the DSN has an unknown keyword, {keyword}: {what_else(keyword)}"


def _pairs(dsn: str) -> Iterator[tuple[str, str]]:
    """Yield the keywords and values of the key=value form."""
    at = len(dsn) - len(dsn.lstrip(" \t\n\v\f\r"))
    before = ""
    while at < len(dsn):
        pair = _PAIR.match(dsn, at)
        if pair is None:
            raise ConfigurationError(_bad_pair(dsn[at:], before))
        before = pair["name"]
        value: str = pair["bare"] if pair["quoted"] is None else pair["quoted"]
        yield before, _ESCAPE.sub(r"\1", value)
        at = pair.end()


def _bad_pair(rest: str, before: str) -> str:
    if re.match(rf"[^={_BLANK}]*[{_BLANK}]*=", rest):
        return "the DSN has a quoted value without its closing quote: inside quotes write \\' and \\\\"
    if before in KEYWORDS:
        return (
            f"the DSN has a word without = after the value of {before}: "
            "quote a value with spaces, keyword='a value'"
        )
    return (
        "the DSN is neither a URI (postgresql://user@host/dbname) nor a list of keyword=value: "
        "to give only a database's name write dbname=name"
    )


def _uri(rest: str) -> Iterator[tuple[str, str]]:
    """Yield the keywords and values of a URI.

    Its form is ``[user[:password]@][host][:port][,...][/dbname][?keyword=value&...]``.
    """
    userinfo, at, after = rest.partition("@")
    if at and "/" not in userinfo:
        user, _, password = userinfo.partition(":")
        if user:
            yield "user", _decode(user, "user")
        if password:
            yield "password", _decode(password, "password")
        rest = after
    hosts, ports, rest = _netlocs(rest)
    path, question, query = rest.partition("?")
    if "@" in hosts or "@" in ports or "@" in path or _may_be_password(query):
        raise ConfigurationError(
            f"the DSN's URI has an @ in or after the host: in user and password {_PERCENT_HELP}"
        )
    if hosts:
        yield "host", _decode(hosts, "host")
    if ports:
        yield "port", _decode(ports, "port")
    if len(path) > 1:
        yield "dbname", _decode(path[1:], "dbname")
    if question:
        yield from _parameters(query)


def _may_be_password(query: str) -> bool:
    """Return whether an unknown keyword in *query* may be part of a password: ``u:a/b?part=c@host``."""
    before, at, _ = query.partition("@")
    names = {parameter.partition("=")[0] for parameter in before.split("&")}
    return bool(at) and any(_NAME.fullmatch(name) for name in names - KEYWORDS.keys() - SPECIAL)


def _netlocs(rest: str) -> tuple[str, str, str]:
    """Return all hosts and all ports, each with commas between them, and the rest of the URI."""
    hosts: list[str] = []
    ports: list[str] = []
    while True:
        netloc = _NETLOC.match(rest)
        if netloc is None:
            raise ConfigurationError(
                "the DSN's URI has a wrong IPv6 address: write it in brackets, "
                "followed by a :port, a / or a ?, as in postgresql://[::1]:5432/dbname"
            )
        hosts.append(netloc["ipv6"] or netloc["name"] or "")
        ports.append(netloc["port"] or "")
        rest = rest[netloc.end() :]
        if not rest.startswith(","):
            return ",".join(hosts), ",".join(ports), rest
        rest = rest[1:]


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    parameters = query.split("&")
    if not parameters[-1]:
        parameters.pop()  # libpq accepts one & at the end
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or "=" in value:
            raise ConfigurationError(
                "the DSN's URI has a parameter that is not keyword=value after the ?: "
                "in a value write = as %3D and & as %26"
            )
        keyword = _decode(name, "keyword")
        text = _decode(value, keyword if keyword in KEYWORDS else "parameter")
        # JDBC's parameter, of which libpq accepts this value only.
        yield ("sslmode", "require") if (keyword, text) == ("ssl", "true") else (keyword, text)


def _decode(text: str, part: str) -> str:
    if _BAD_PERCENT.search(text):
        raise ConfigurationError(f"the {part} in the DSN's URI has a wrong percent-encoding: {_PERCENT_HELP}")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        # Drop the cause, because it quotes the bytes, which may be the password's.
        raise ConfigurationError(f"the {part} in the DSN's URI is not UTF-8 once decoded") from None


def keyword_string(keywords: Mapping[str, object]) -> str:
    """Return libpq's key=value form; keywords whose value is ``None`` are left out."""
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in keywords.items() if value is not None)


def _quoted(value: str) -> str:
    if value and not set(value) & set(" \t\n\r\f\v'\\"):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
