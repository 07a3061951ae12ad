"""Finds channel names that the database would alter. Pure, except for the query that it is given.

If the database's encoding is not UTF-8, the server converts each name, cuts it after 63 bytes, and converts
it back in each notification. If the result differs, notifications would arrive under a name that no caller
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from .._sql import ENCODING_QUERY, names_query
from ..errors import ConnectionLost, InvalidChannelName, ServerError

__all__ = ["ServerNames"]

UNTRANSLATABLE = "22P05"
"""``character … has no equivalent in encoding`` (untranslatable_character)."""

REMEMBERED = 1000
"""Names to remember, so that a sender that repeats a name asks once."""


class ServerNames:
    """Ask one session's database what it makes of channel names; *fetch* runs a query and returns its rows.

    The encoding is asked for with the first name that is not ASCII. Unless the encoding is UTF-8, each such
    name is asked for once.
    """

    def __init__(self, fetch: Callable[[str], Sequence[Sequence[str | None]]]) -> None:
        self._fetch = fetch
        self._encoding: str | None = None
        self._kept: set[str] = set()

    def altered(self, channels: Collection[str]) -> dict[str, InvalidChannelName]:
        """Return the channels whose names the database would alter, with the error for each.

        Waits and raises as `Session.fetch` does. With several names, 22P05 is raised, because any of them may
        have caused it. With one name, the error is returned.
        """
        doubtful = [name for name in channels if not name.isascii() and name not in self._kept]
        if not doubtful:
            return {}
        if self._encoding is None:
            (self._encoding,) = self._answers(ENCODING_QUERY, 1)
        if self._encoding == "UTF8":
            return {}
        try:
            found = self._answers(names_query(doubtful), len(doubtful))
        except ServerError as error:
            if error.sqlstate != UNTRANSLATABLE or len(doubtful) > 1:
                raise
            return {doubtful[0]: self._inexpressible(doubtful[0], error)}
        pairs = zip(doubtful, found, strict=True)
        altered = {name: self._renamed(name, there) for name, there in pairs if there != name}
        if len(self._kept) + len(doubtful) > REMEMBERED:
            self._kept.clear()
        self._kept.update(name for name in doubtful if name not in altered)
        return altered

    def _answers(self, sql: str, count: int) -> list[str]:
        values = [value for row in self._fetch(sql) for value in row if value is not None]
        if len(values) != count:
            raise ConnectionLost("the server does not say what its database makes of a channel's name")
        return values

    def _inexpressible(self, name: str, error: ServerError) -> InvalidChannelName:
        refusal = InvalidChannelName(
            f"channel name {name!r} has characters that the database's encoding, {self._encoding}, does not "
            "have: use ASCII characters, which every encoding has"
        )
        refusal.__cause__ = error.with_traceback(None)
        return refusal

    def _renamed(self, name: str, found: str) -> InvalidChannelName:
        return InvalidChannelName(
            f"channel name {name!r} becomes {found!r} in the database, whose encoding is {self._encoding}: "
            "use ASCII characters, which stay as they are, or at most 63 bytes in that encoding"
        )
