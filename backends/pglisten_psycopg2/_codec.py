"""How psycopg2 turns what the server says into text, without a detour through Python.

psycopg2 decodes the channel and the payload of each notification by the codec that
``psycopg2.extensions.encodings`` names for the connection's encoding, looked up once, while connecting. For
UTF-8 that codec is a function in Python around one in C, and a fifth of all that psycopg2 does for a
notification. The one in C alone does as well. So while a connection of ours polls for its establishment, the
mapping names that: psycopg2 keeps the interpreter's lock during such a poll, and nobody else comes to see it.
An application that has put a codec of its own there keeps it.

One thing is different: of a payload that ends within a character, as is possible in a database without an
encoding only, the beginning of that character is left out instead of replaced.
"""

from __future__ import annotations

import codecs

from psycopg2.extensions import connection, encodings

from ._wait import poll

__all__ = ["poll_connecting"]

NAME = "pglisten_utf_8"
_ENCODING, _USUAL = "UTF8", "utf_8"


def _find(name: str) -> codecs.CodecInfo | None:
    return codecs.CodecInfo(codecs.utf_8_encode, codecs.utf_8_decode, name=NAME) if name == NAME else None


codecs.register(_find)
codecs.lookup(NAME)  # Now, so that nothing in Python runs when psycopg2 does.


def poll_connecting(conn: connection) -> int:
    """Return what `poll` does, of a connection that is being established."""
    if encodings.get(_ENCODING) != _USUAL:
        return poll(conn)
    encodings[_ENCODING] = NAME
    try:
        return poll(conn)
    finally:
        encodings[_ENCODING] = _USUAL
