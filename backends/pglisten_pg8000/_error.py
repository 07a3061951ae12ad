"""Parse an ErrorResponse or a NoticeResponse."""

from __future__ import annotations

from pglisten.backend import server_text
from pglisten.errors import ServerError

__all__ = ["read_error"]


def read_error(body: bytes) -> ServerError:
    """Return the error or notice in *body*, which may be cut short (PostgreSQL docs, 55.8)."""
    fields: dict[bytes, str] = {}
    for field in body.split(b"\0"):
        fields.setdefault(field[:1], server_text(field[1:]))
    return ServerError(
        fields.get(b"M", "no message"),
        # V is never translated; a pooler may send only S.
        severity=fields.get(b"V") or fields.get(b"S", "ERROR"),
        sqlstate=fields.get(b"C", "XX000"),
        detail=fields.get(b"D"),
        hint=fields.get(b"H"),
    )
