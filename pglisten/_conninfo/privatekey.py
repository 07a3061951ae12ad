"""Whether a client's private key is encrypted. Without its password OpenSSL would ask on the terminal."""

from __future__ import annotations

import re
import stat
from pathlib import Path

__all__ = ["is_encrypted"]

_LIMIT = 1 << 20
"""Bytes of the file that are searched; a key has a few thousand."""

_KEY = re.compile(
    rb"-----BEGIN (?P<kind>[A-Z0-9 ]*)PRIVATE KEY-----\s*(?P<header>Proc-Type:[ \t]*4[ \t]*,[ \t]*ENCRYPTED)?"
)


def is_encrypted(path: str) -> bool:
    """Return whether the first key in the PEM file *path* is encrypted.

    Both forms count: PKCS #8 (RFC 7468, section 11) and OpenSSL's traditional one (Proc-Type, RFC 1421).
    Return False for a key in DER, because libpq refuses an encrypted one without asking for a password. The
    same holds for a file that cannot be read, because the driver reports the reason.
    """
    try:
        file = Path(path)
        if not stat.S_ISREG(file.stat().st_mode):  # Reading a pipe would block.
            return False
        with file.open("rb") as opened:
            found = _KEY.search(opened.read(_LIMIT))
    except (OSError, ValueError):
        return False
    return found is not None and (found["kind"] == b"ENCRYPTED " or found["header"] is not None)
