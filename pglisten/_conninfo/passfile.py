"""The password file, ``~/.pgpass``, by the rules of ``passwordFromFile`` in libpq 17 (fe-connect.c)."""

from __future__ import annotations

import logging
import os
import stat
from typing import TypeAlias

from .._text import printable

__all__ = ["Content", "look_up", "read"]

logger = logging.getLogger("pglisten.conninfo")

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""Permissions that a password file must not grant."""

_warned: set[tuple[str, str]] = set()
"""Files and complaints already logged: a listener may read the password file every second."""


class Ignored(Exception):
    """The file is ignored; the message says why."""


Content: TypeAlias = bytes | OSError | Ignored
"""The bytes of a password file, or the error of reading it."""


def look_up(path: str, fields: tuple[str, str, str, str], content: Content) -> tuple[str, str]:
    """Return the password in *content* of file *path* for *fields*, and where it is from.

    *fields* are host, port, dbname and user. If there is no password, return ``""``, and ``none:`` with the
    reason on one line. Raises nothing, because libpq connects without a password too.
    """
    name = f"password file {printable(path)}"
    if isinstance(content, FileNotFoundError):
        return "", f"none: none was given, and there is no {name}"
    if isinstance(content, OSError):
        return "", f"none: {name} cannot be read: {content.strerror}"
    if isinstance(content, Ignored):
        complaint = f"{name} is ignored, {content}"
        if (path, complaint) not in _warned:
            _warned.add((path, complaint))
            logger.warning("%s", complaint)
        return "", f"none: {complaint}"
    password = _search(content, [field.encode() for field in fields])
    if password is None:
        return "", f"none: {name} has no line for {printable(':'.join(fields))}"
    try:
        text = password.decode()
    except UnicodeDecodeError:
        return "", f"none: the password in {name} is not UTF-8"
    return text, name if text else f"none: {name} has an empty password"


def read(path: str) -> Content:
    """Return the content of the file at *path*, or the error. A network file system may block this call."""
    try:
        return _read(path)
    except (OSError, Ignored) as error:
        return error


def _read(path: str) -> bytes:
    # Non-blocking: a FIFO at this path would block the hub until a process writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise Ignored("it is not a plain file")
        if mode & _OTHERS:
            raise Ignored("group or others have access to it: chmod 0600 it")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _search(content: bytes, fields: list[bytes]) -> bytes | None:
    """Return the password of the first line that matches, ``None`` if none does."""
    for line in content.split(b"\n"):
        rest: bytes | None = line.rstrip(b"\r")
        # No setting of PostgreSQL can contain NUL, and libpq's treatment of it is accidental.
        if line.startswith(b"#") or b"\0" in line:
            continue
        for field in fields:
            rest = None if rest is None else _after(rest, field)
        if rest is not None:
            return _password(rest)
    return None


def _after(line: bytes, field: bytes) -> bytes | None:
    """Return the rest of *line* after *field* and its colon; ``None`` if it starts with another field.

    As in libpq, a colon within the field may have a backslash before it or not: ``::1:5432:...`` starts with
    the address ``::1``.
    """
    if line.startswith(b"*:"):
        return line[2:]
    at = 0
    for byte in field:
        if line[at : at + 1] == b"\\":
            at += 1
        if line[at : at + 1] != bytes([byte]):
            return None
        at += 1
    return line[at + 1 :] if line[at : at + 1] == b":" else None


def _password(rest: bytes) -> bytes:
    """Return the last field without its escapes; it ends at the end of the line or at a colon."""
    password = bytearray()
    at = 0
    while at < len(rest) and rest[at : at + 1] != b":":
        if rest[at : at + 1] == b"\\" and at + 1 < len(rest):
            at += 1
        password += rest[at : at + 1]
        at += 1
    return bytes(password)
