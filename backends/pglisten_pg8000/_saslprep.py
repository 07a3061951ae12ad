"""Prepare passwords for SCRAM as libpq and the server do: ``pg_saslprep`` in PostgreSQL's saslprep.c.

It follows SASLprep (RFC 4013, with the tables of RFC 3454 for Unicode 3.2), with three exceptions:

* ASCII text stays unchanged, including control characters.
* Prohibited, unassigned and bidirectional characters are checked before normalization, not after it.
* If SASLprep refuses a password, its own bytes are used. This is no error.
"""

from __future__ import annotations

import stringprep
import unicodedata

__all__ = ["prepare"]

_REFUSED = (
    stringprep.in_table_a1,  # unassigned in Unicode 3.2: most emoji
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,  # private use
    stringprep.in_table_c4,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)
"""SASLprep refuses the characters of these tables (RFC 4013, 2.3 and 2.5). UTF-8 has no surrogates."""


def prepare(password: str) -> bytes:
    """Return the bytes that SCRAM hashes for *password*."""
    if not password.isascii():
        # U+200B is in both tables; C.1.2 takes precedence.
        spaced = (" " if stringprep.in_table_c12(character) else character for character in password)
        mapped = "".join(character for character in spaced if not stringprep.in_table_b1(character))
        if mapped and _is_allowed(mapped):
            # Normalize by today's Unicode, as PostgreSQL does, not by 3.2: corrigenda changed five
            # ideographs.
            return unicodedata.normalize("NFKC", mapped).encode()
    return password.encode()


def _is_allowed(text: str) -> bool:
    if any(table(character) for character in text for table in _REFUSED):
        return False
    if not any(map(stringprep.in_table_d1, text)):
        return True
    # Text with a right-to-left character must begin and end with one, and have no left-to-right character.
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(map(stringprep.in_table_d2, text))
