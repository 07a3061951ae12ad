"""Service files, ``pg_service.conf``, by the rules of ``parseServiceInfo`` in libpq 17 (fe-connect.c).

No message repeats the text of a line, because it may be a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from .._text import printable
from ..errors import ConfigurationError
from .keywords import KEYWORDS, what_else

__all__ = ["read_service"]

SYSTEM_DIRECTORIES = ("/etc/postgresql-common", "/etc/sysconfig/pgsql", "/usr/local/pgsql/etc")
"""Directories of ``pg_service.conf`` without ``PGSYSCONFDIR``. Each libpq uses the one of its build: Debian's
and psycopg2-binary's, that of PostgreSQL's RPMs, and that of a build without options."""

MAX_LINE = 1022
"""Longest line in bytes, its end included: libpq reads into 1024 bytes and refuses a full buffer."""

_BLANK = b" \t\n\v\f\r"  # C's isspace()


def read_service(name: str, environ: Mapping[str, str], home_directory: str) -> tuple[dict[str, str], str]:
    """Return what service *name* sets, and the file that says so.

    *home_directory* is the user's, ``""`` if there is none. The first setting of a keyword counts. Raises
    `ConfigurationError` where libpq refuses: if the file that ``PGSERVICEFILE`` names cannot be read, if no
    file has the service, or if a line of it is wrong.
    """
    looked: list[str] = []
    for path in _files(environ, home_directory):
        values = _search(path, name)
        if values is not None:
            return values, path
        looked.append(path)
    places = (
        f"is not in {' or '.join(map(printable, looked))}"
        if looked
        else "is set, and there is no service file"
    )
    raise ConfigurationError(
        f"service {printable(name)!r} {places}: add a section [{printable(name)}] to ~/.pg_service.conf, "
        "or set PGSERVICEFILE to another file"
    )


def _files(environ: Mapping[str, str], home_directory: str) -> Iterator[str]:
    own = os.path.join(home_directory, ".pg_service.conf")
    if "PGSERVICEFILE" in environ:
        yield environ["PGSERVICEFILE"]
    elif home_directory and os.path.exists(own):
        yield own
    directories = [environ["PGSYSCONFDIR"]] if "PGSYSCONFDIR" in environ else SYSTEM_DIRECTORIES
    paths = (os.path.join(directory, "pg_service.conf") for directory in directories)
    yield from list(filter(os.path.exists, paths))[:1]


def _search(path: str, name: str) -> dict[str, str] | None:
    """Return what service *name* sets in file *path*; ``None`` if the file does not have it."""
    values: dict[str, str] | None = None
    for number, line in _lines(path):
        if line.startswith(b"["):
            if values is not None:
                break
            if line.startswith(b"[" + name.encode() + b"]"):
                values = {}
        elif values is not None:
            keyword, value = _setting(line, f"service file {printable(path)}, line {number}")
            values.setdefault(keyword, value)
    return values


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the stripped text of each line that is neither empty nor a comment."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                if len(line) > MAX_LINE:
                    raise ConfigurationError(
                        f"service file {printable(path)}, line {number}: over {MAX_LINE} bytes, "
                        "which libpq does not read: shorten it"
                    )
                stripped = line.strip(_BLANK)
                if stripped and not stripped.startswith(b"#"):
                    yield number, stripped
    except OSError as error:
        raise ConfigurationError(
            f"service file {printable(path)!r} cannot be read: {error.strerror}: "
            "correct PGSERVICEFILE or the file's permissions"
        ) from None


def _setting(line: bytes, where: str) -> tuple[str, str]:
    """Return keyword and value of *line*; blanks around the = belong to them."""
    if line.startswith(b"ldap"):
        raise ConfigurationError(
            f"{where}: LDAP lookup of a service is not supported: write its settings there"
        )
    keyword, equals, value = line.partition(b"=")
    name = keyword.decode("utf-8", "replace")
    if not equals or name not in KEYWORDS:
        hint = f": {what_else(name)}" if equals else ""
        raise ConfigurationError(
            f"{where}: not a libpq keyword and its value, keyword=value without blanks{hint}"
        )
    if name == "service":
        raise ConfigurationError(
            f"{where}: a service cannot name another service: write the other's settings there"
        )
    try:
        text = value.decode()
    except UnicodeDecodeError:
        # Drop the cause, because it holds the bytes.
        raise ConfigurationError(f"{where}: the value of {name} is not UTF-8") from None
    if "\0" in text:
        raise ConfigurationError(f"{where}: the value of {name} contains a NUL character: remove it")
    return name, text
